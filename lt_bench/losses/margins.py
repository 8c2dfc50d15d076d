"""Margins of classes in a loss, from training counts."""

from __future__ import annotations

from torch import Tensor

from lt_bench.errors import LTBenchError


def label_aware_margins(counts: Tensor, max_margin: float) -> Tensor:
    """Δ_j ~ n_j^{-1/4}, scaled so that the largest is ``max_margin`` (Cao et al. 2019, section 3.2).

    Args:
        counts: (C,) int64, training images of each class, each at least 1.
        max_margin: the margin of the rarest class, in units of a cosine.

    Returns:
        (C,) float32.

    Raises:
        LTBenchError: a class without a training image.
    """
    if bool((counts < 1).any()):
        raise LTBenchError("label-aware margins need at least one training image of every class")
    relative = (counts.min() / counts.double()) ** 0.25
    return (max_margin * relative).float()
