"""Projection networks of contrastive losses: features to points of the unit sphere."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNormOfRows(nn.BatchNorm1d):
    """Batch normalisation that takes one row too: it has no variance, so running statistics stand in.

    On several ranks it is given the rows of all of them.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, d) -> (n, d)."""
        if len(input) > 1 or not self.training:
            return super().forward(input)
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class ProjectionMLP(nn.Module):
    """Linear, batch normalisation, ReLU, linear, L2 normalisation.

    Its input is small and is gathered from all ranks first (:meth:`lt_bench.data.batch.Batch.of_all`), so
    that each computes the projections of the global batch.

    Args:
        dim: d of the features.
        hidden: width of the hidden layer.
        out: p of the projections.
    """

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), BatchNormOfRows(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) -> (n, p) of length 1."""
        return F.normalize(self.layers(features), dim=1)
