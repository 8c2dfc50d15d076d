"""Plain training: cross-entropy, image-balanced sampling, end to end."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lt_bench.method import Representation
from lt_bench.registry import METHODS


@METHODS.register_module("plain")
class Plain(Representation):
    """L = -log softmax(z)_y, mean over the batch."""

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits (B, C) for labels (B,)."""
        return F.cross_entropy(logits, labels)
