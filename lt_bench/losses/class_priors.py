"""The label distribution of the training data, as losses add it to logits."""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError


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
