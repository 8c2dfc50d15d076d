"""The classifier of stage 1, kept as it is."""

from __future__ import annotations

from lt_bench.method import Classifier, FittedClassifier, TrainedRepresentation
from lt_bench.registry import METHODS


@METHODS.register_module("kept")
class Kept(Classifier):
    """No second stage."""

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Hand on stage 1's head."""
        return FittedClassifier(stage.head, batch_norm=None)
