"""Prediction from the logits as they are."""

from __future__ import annotations

from torch import Tensor

from lt_bench.method import Prediction
from lt_bench.registry import METHODS


@METHODS.register_module("unchanged")
class Unchanged(Prediction):
    """The identity."""

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (n, C), unchanged."""
        return logits
