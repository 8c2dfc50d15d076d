"""NCM, nearest class mean (Kang et al., Decoupling, ICLR 2020, section 4.2; settings of its code).

The mean of all training features is subtracted, features are L2-normalised, a class's prototype is the
mean of its normalised features (not normalised again), and the score is the negative squared distance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.method import Classifier, FittedClassifier, TrainedRepresentation
from lt_bench.models.heads import PrototypeHead
from lt_bench.registry import METHODS


def class_prototypes(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The centre and the class means of centred, L2-normalised features.

    Args:
        features: (n, d) float.
        labels: (n,) int64; every class occurs.
        num_classes: C.

    Returns:
        centre (d,) and prototypes (C, d).
    """
    centre = features.mean(0)
    # Sorted by class, a class is a segment: added in a fixed order on a GPU too, unlike by index_add_.
    order = torch.argsort(labels, stable=True)
    normalised = F.normalize(features[order] - centre)
    counts = torch.bincount(labels, minlength=num_classes)
    return centre, torch.segment_reduce(normalised, "mean", lengths=counts, axis=0)


@METHODS.register_module("ncm")
class NCM(Classifier):
    """Nearest class mean."""

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Build the prototypes from the training features, without augmentation."""
        train = stage.features("train")
        if train is None:
            raise RuntimeError("a trained representation has training features")
        with torch.no_grad():
            centre, prototypes = class_prototypes(train.features, train.labels, self.task.num_classes)
        return FittedClassifier(PrototypeHead(centre, prototypes).eval())
