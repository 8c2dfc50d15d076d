"""The label distribution of the training data, and the cross-entropy of logits that it is added to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.losses.precision import at_least_float32


def log_prior(counts: Tensor) -> Tensor:
    """log π_j, π_j = n_j / N.

    Args:
        counts: (C,) int64, training images n_j of each class, each at least 1.

    Returns:
        (C,) float32, natural logarithms; their exponentials sum to 1.

    Raises:
        LTBenchError: a class without a training image, whose logarithm is not finite.
    """
    if bool((counts < 1).any()):
        raise LTBenchError("the log prior of the classes needs at least one training image of every class")
    frequencies = counts.double() / counts.sum()
    return torch.log(frequencies).float()


def prior_cross_entropy(logits: Tensor, labels: Tensor, log_prior: Tensor, tau: float = 1.0) -> Tensor:
    """CE(z + τ log π, y), mean over the batch.

    τ = 1 is Balanced Softmax (Ren et al., NeurIPS 2020, theorem 1), any other the logit-adjusted loss
    (Menon et al., ICLR 2021, eq. 10).

    Args:
        logits: (B, C) floating point.
        labels: (B,) int64.
        log_prior: (C,) log π_j.
        tau: τ, from 0; 0 is cross-entropy.

    Returns:
        () float32, or float64 for float64 logits.
    """
    logits = at_least_float32(logits)
    return F.cross_entropy(logits + tau * log_prior.to(logits.dtype), labels)
