"""Weights of classes in a loss, from training counts, and the cross-entropy that they weigh."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.losses.precision import at_least_float32


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """Weights by the effective number of samples (Cui et al., CVPR 2019, eq. 4), w_j ~ (1-β)/(1-β^n_j).

    Args:
        counts: (C,) int64, training images of each class, each at least 1.
        beta: in [0, 1); 0 weighs all classes alike, towards 1 the weights approach 1 / n_j.

    Returns:
        (C,) float32, scaled so that they sum to C.

    Raises:
        LTBenchError: beta outside of [0, 1), or a class without a training image.
    """
    if not 0 <= beta < 1:
        raise LTBenchError(f"beta of class-balanced weights is from 0 to below 1, got {beta!r}")
    if bool((counts < 1).any()):
        raise LTBenchError("class-balanced weights need at least one training image of every class")
    # In float64, and with expm1: β = .9999 and n = 1 would leave four digits in float32.
    log_beta = torch.log(torch.tensor(beta, dtype=torch.float64)) if beta else None
    shrunk = (
        torch.ones(len(counts), dtype=torch.float64)
        if log_beta is None
        else -torch.expm1(counts.cpu().double() * log_beta)
    )
    weights = 1 / shrunk
    return (weights * (len(weights) / weights.sum())).float().to(counts.device)


def class_balanced_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """-(1/B) Σ_i w_{y_i} log softmax(z_i)_{y_i} (Cui et al. 2019, eq. 10).

    Args:
        logits: (B, C) floating point.
        labels: (B,) int64.
        weights: (C,) w_j.

    Returns:
        () float32, or float64 for float64 logits.
    """
    losses = F.cross_entropy(at_least_float32(logits), labels, reduction="none")
    return (weights.to(losses.dtype).index_select(0, labels) * losses).mean()
