"""Deferred re-sampling: one sampler until the switch, then another.

DRS of Cao et al. (LDAM-DRW, NeurIPS 2019, section 3.3): instance sampling, then class-balanced sampling.

With image-balanced sampling first, the representation is learned from the data as it is; the balanced
sampler of the last epochs, at a low learning rate, moves the decision boundaries.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lt_bench.data.samplers import EpochSampler, build_sampler
from lt_bench.deferred import check_fraction, has_switched
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module(name="deferred")
class DeferredSampler(EpochSampler):
    """The order of ``first`` until the switch epoch, that of ``then`` after it.

    Args:
        labels: (N,) int64 training labels.
        num_classes: C.
        batch_size: images in a global batch.
        seed: of the run.
        epochs: of the run; the switch scales with them.
        rank: of this process.
        world: number of processes.
        first: config of the first sampler; None is ``dict(type="instance")``.
        then: config of the second; None is ``dict(type="class_balanced")``.
        fraction: of the epochs before the switch, in [0, 1]; 0.8 switches after 160 of 200.

    Raises:
        LTBenchError: a fraction outside of [0, 1], two samplers with different numbers of draws an
            epoch, or what the base or one of the two refuses.
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        first: dict[str, Any] | None = None,
        then: dict[str, Any] | None = None,
        fraction: float = 0.8,
        **common: Any,
    ) -> None:
        super().__init__(labels, **common)
        check_fraction(fraction)
        self.fraction = fraction
        given = {
            "first": {"type": "instance"} if first is None else first,
            "then": {"type": "class_balanced"} if then is None else then,
        }
        for name, cfg in given.items():
            if not isinstance(cfg, dict) or "type" not in cfg:
                raise LTBenchError(f"deferred: {name} is a sampler's dict with a 'type', got {cfg!r}")
        self.first = build_sampler(given["first"], labels, **common)
        self.then = build_sampler(given["then"], labels, **common)
        if not self.first.batch_size == self.then.batch_size == self.batch_size:
            raise LTBenchError(
                "deferred: a sampler of pairs (bilateral) has batches of its own kind; use it alone"
            )
        if self.first.draws != self.then.draws:
            raise LTBenchError(
                f"deferred: both samplers draw the same number of images an epoch, got {self.first.draws} "
                f"of first ({given['first']['type']}) and {self.then.draws} of then "
                f"({given['then']['type']}); class_balanced draws as many as instance"
            )

    @property
    def draws(self) -> int:
        """M, that of both samplers."""
        return self.first.draws

    def epoch_indices(self, epoch: int) -> Tensor:
        """(M,) int64, the order of the sampler whose turn it is in epoch ``epoch``, counted from 0."""
        current = self.then if has_switched(epoch + 1, self.epochs, self.fraction) else self.first
        return current.epoch_indices(epoch)
