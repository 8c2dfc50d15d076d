"""Classifier heads: linear, cosine, fixed directions with learned scales, the nearest class mean.

Every head maps features (n, d) to logits (n, C).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_head(dim: int, num_classes: int, seed: int) -> nn.Linear:
    """A new linear classifier whose initial weights depend on ``seed`` alone.

    Args:
        dim: d.
        num_classes: C.
        seed: seed of the draw; the global generator is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    head = nn.utils.skip_init(nn.Linear, dim, num_classes)
    bound = 1 / math.sqrt(dim)
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    return head


class CosineHead(nn.Module):
    """logit_j = scale * cos(z, w_j) (Gidaris and Komodakis 2018; LDAM's NormedLinear, Cao et al. 2019).

    Args:
        dim: d.
        num_classes: C.
        scale: fixed factor of the cosines.
    """

    def __init__(self, dim: int, num_classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) -> (n, C)."""
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))


class ScaledHead(nn.Module):
    """logit_j = s_j * (logits of a frozen head)_j, s_j learned from 1 (LWS, Kang et al. 2020).

    Args:
        frozen: the trained head; its parameters take no gradient.
        num_classes: C.
    """

    def __init__(self, frozen: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.scales = nn.Parameter(torch.ones(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) -> (n, C)."""
        return self.frozen(features) * self.scales


class PrototypeHead(nn.Module):
    """logit_j = -||z' - p_j||^2, z' the centred and L2-normalised feature (NCM, Kang et al. 2020).

    Args:
        centre: (d,) what is subtracted from a feature before it is normalised.
        prototypes: (C, d) class means of such features.
    """

    centre: Tensor
    prototypes: Tensor

    def __init__(self, centre: Tensor, prototypes: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("prototypes", prototypes)

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) -> (n, C)."""
        normalised = F.normalize(features - self.centre)
        # Expanded square: cdist would take roots only to square them again.
        cross = normalised @ self.prototypes.T
        squares = self.prototypes.square().sum(1)
        return 2 * cross - squares - normalised.square().sum(1, keepdim=True)
