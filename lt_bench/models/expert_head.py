"""The head of several experts: each classifies its own part of the features, the mean is the answer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.errors import LTBenchError

KINDS = ("linear", "cosine")


class ExpertHead(nn.Module):
    """E classifiers on features that lie side by side, (B, E * d) -> (B, C), the mean of their logits.

    * ``linear``: logit_ej = w_ej . z_e + b_ej.
    * ``cosine``: logit_ej = scale * cos(z_e, w_ej) (the ``NormedLinear`` of LDAM's and RIDE's code).

    Args:
        feature_dim: E * d.
        num_classes: C.
        experts: E.
        kind: ``linear`` or ``cosine``.
        scale: factor of the cosines; without meaning for ``linear``.

    Attributes:
        weight: (E, C, d).
        bias: (E, C), or None for ``cosine``.
        num_experts: E.

    Raises:
        LTBenchError: another kind, a scale that is not above 0, or features that E experts cannot share.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        experts: int,
        kind: str = "linear",
        scale: float = 30.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise LTBenchError(f"a head of experts is one of {', '.join(KINDS)}; got {kind!r}")
        if not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
            raise LTBenchError(f"the scale of cosines is a number above 0, got {scale!r}")
        if experts < 1 or feature_dim % experts:
            raise LTBenchError(
                f"{feature_dim} features are not those of {experts} experts side by side; "
                f"set model.backbone to expert_cifar_resnet or expert_convnet with experts={experts}"
            )
        dim = feature_dim // experts
        bound = 1 / math.sqrt(dim)
        self.kind, self.scale, self.num_experts = kind, float(scale), experts
        self.weight = nn.Parameter(torch.empty(experts, num_classes, dim).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(experts, num_classes).uniform_(-bound, bound))
            if kind == "linear"
            else None
        )

    def parts(self, features: Tensor) -> Tensor:
        """The features of each expert: (B, E * d) -> (B, E, d), a view."""
        return features.unflatten(1, (self.num_experts, -1))

    def experts(self, features: Tensor) -> Tensor:
        """Every expert's logits: (B, E * d) -> (B, E, C)."""
        parts: Tensor = self.parts(features)
        weight: Tensor = self.weight
        if self.kind == "cosine":
            parts, weight = self.scale * F.normalize(parts, dim=2), F.normalize(weight, dim=2)
        logits = torch.einsum("bed,ecd->bec", parts, weight)
        return logits if self.bias is None else logits + self.bias

    def forward(self, features: Tensor, each: bool = False) -> Tensor:
        """The mean of the experts' logits, (B, E * d) -> (B, C).

        Args:
            features: (B, E * d).
            each: every expert's logits instead, (B, E, C). A loss on them goes through here and not through
                :meth:`experts`: hooks on the head, such as those that take snapshots, see calls only.
        """
        logits = self.experts(features)
        return logits if each else logits.mean(dim=1)
