"""When a deferred schedule switches (DRW and DRS of Cao et al., LDAM-DRW, NeurIPS 2019, section 3.3)."""

from __future__ import annotations

from lt_bench.errors import LTBenchError


def check_fraction(fraction: float) -> None:
    """Refuse what is no fraction of a schedule.

    Raises:
        LTBenchError: anything but a number from 0 to 1.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
        raise LTBenchError(f"the fraction of epochs before a deferred switch is in 0 to 1, got {fraction!r}")


def switch_epoch(epochs: int, fraction: float) -> int:
    """The last epoch, from 1, before the switch: 160 of 200 at the paper's 0.8.

    Args:
        epochs: E of the training.
        fraction: of the epochs before the switch, in [0, 1].

    Raises:
        LTBenchError: a fraction outside of [0, 1].
    """
    check_fraction(fraction)
    # The product of a decimal fraction and a whole number may fall a rounding short of one.
    return int(epochs * fraction + 1e-9)


def has_switched(epoch: int, epochs: int, fraction: float) -> bool:
    """Whether epoch ``epoch`` (from 1) of ``epochs`` lies behind the switch.

    Args:
        epoch: counted from 1.
        epochs: E of the training.
        fraction: of the epochs before the switch, in [0, 1]; 1 never switches.

    Raises:
        LTBenchError: a fraction outside of [0, 1].
    """
    return epoch > switch_epoch(epochs, fraction)
