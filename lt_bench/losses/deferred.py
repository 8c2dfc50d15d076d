"""When a deferred schedule switches (DRW and DRS of Cao et al., LDAM-DRW, NeurIPS 2019)."""

from __future__ import annotations

from lt_bench.errors import LTBenchError


def switch_epoch(epochs: int, fraction: float) -> int:
    """The last epoch, from 1, before the switch: 160 of 200 at the paper's 0.8.

    Args:
        epochs: E of the training.
        fraction: of the epochs before the switch, in [0, 1].

    Raises:
        LTBenchError: a fraction outside of [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise LTBenchError(f"the fraction of epochs before a deferred switch is in 0 to 1, got {fraction!r}")
    # The product of a decimal fraction and a whole number may fall a rounding short of one.
    return int(epochs * fraction + 1e-9)
