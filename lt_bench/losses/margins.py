"""Margins of classes in a loss, from training counts, and the cross-entropy that has them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.losses.precision import at_least_float32


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


def margin_cross_entropy(
    logits: Tensor, labels: Tensor, margins: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy with a margin off the true class's logit (Cao et al. 2019, section 3.2).

    Args:
        logits: (B, C) floating point.
        labels: (B,) int64.
        margins: (C,) in units of the logits.
        weights: (C,) class weights, with which the mean divides by the batch's sum of weights; None for
            the plain mean.

    Returns:
        () float32, or float64 for float64 logits.
    """
    logits = at_least_float32(logits)
    true = labels.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device)
    lowered = torch.where(true, logits - margins.to(logits.dtype), logits)
    return F.cross_entropy(lowered, labels, weight=None if weights is None else weights.to(logits.dtype))
