"""Distances between the features of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.losses.precision import at_least_float32


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances of all pairs of a batch, with gradient 0 where two features are equal.

    Args:
        features: (B, d) float; half precision is computed in float32.

    Returns:
        (B, B), symmetric, with a zero diagonal.
    """
    exact = at_least_float32(features)
    # Not by the expanded square: for near features that is a difference of large numbers.
    return torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")


def same_class(labels: Tensor) -> Tensor:
    """Which pairs of a batch share their class.

    Args:
        labels: (B,) int64.

    Returns:
        (B, B) bool, true on the diagonal.
    """
    return labels.unsqueeze(1) == labels.unsqueeze(0)
