"""DisAlign (Zhang, Li, Yan, He and Sun, "Distribution Alignment: A Unified Framework for Long-Tail Visual
Recognition", CVPR 2021, section 3).

Backbone and classifier of stage 1 are frozen. Adaptive calibration of its logits z(x), with magnitudes
α_j, margins β_j and a confidence σ(x) = sigmoid(v . x + c) that is learned from the feature:

    z'_j = σ(x) (α_j z_j + β_j) + (1 - σ(x)) z_j

learned on image-balanced batches by generalised re-weighting, a cross-entropy whose class weights are
w_j = (1 / n_j)^ρ / Σ_k (1 / n_k)^ρ. The released settings on ImageNet-LT are ρ = 1.2, 10 epochs, lr 0.1 at
batch 256, cosine and weight decay 5e-4; here rate and batch are those of the dataset's classifiers
(``classifier_recipe``). As in the released code the weights are scaled to sum to C and the weighted
cross-entropy divides by the batch's sum of weights, so that their scale does not matter.

Departures: training starts from stage 1's classifier, α_j = 1 and β_j = 0. The released code writes (1 + σ
a_j) z_j + σ β_j with a_j = α_j - 1, and starts at a_j = 1; its form is kept, since weight decay then pulls
towards stage 1's logits and not towards 0, but a_j starts at 0. v starts at 0.1 as there, c at 0, there as
a linear layer's bias. The backbone is in eval mode; in the released code its batch statistics move on.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number
from lt_bench.errors import LTBenchError
from lt_bench.fitting import HeadRecipe, HeadTrainer
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Classifier, FittedClassifier, TrainedRepresentation
from lt_bench.registry import METHODS
from lt_bench.task import Task


def generalised_weights(counts: Tensor, rho: float) -> Tensor:
    """w_j = (1 / n_j)^ρ, scaled so that they sum to C (Zhang et al. 2021, section 3.3).

    Args:
        counts: (C,) int64, training images of each class, each at least 1.
        rho: ρ from 0; 0 weighs all classes alike, 1 by their inverse frequency.

    Returns:
        (C,) float32.

    Raises:
        LTBenchError: a class without a training image, or a ρ under which a weight is 0 in float32.
    """
    if bool((counts < 1).any()):
        raise LTBenchError("generalised re-weighting needs at least one training image of every class")
    # Over the least count no power overflows, and the largest is 1.
    weights = (counts.double() / counts.min()) ** -rho
    weights = (weights * (len(weights) / weights.sum())).float()
    if bool((weights < torch.finfo(torch.float32).tiny).any()):
        raise LTBenchError(
            f"generalised re-weighting by rho = {rho:g} leaves a class no weight at these counts; lower rho "
            "(1.2 is the paper's)"
        )
    return weights


class CalibratedHead(nn.Module):
    """z'_j = (1 + σ(x) a_j) z_j + σ(x) β_j on a frozen head's logits z (ibid., section 3.2).

    Args:
        frozen: the trained head, (n, d) -> (n, C); its parameters take no gradient.
        dim: d.
        num_classes: C.
    """

    def __init__(self, frozen: nn.Module, dim: int, num_classes: int) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        self.magnitudes = nn.Parameter(torch.zeros(num_classes))
        self.margins = nn.Parameter(torch.zeros(num_classes))
        self.confidence_weight = nn.Parameter(torch.full((dim,), 0.1))
        self.confidence_bias = nn.Parameter(torch.zeros(()))

    def confidence(self, features: Tensor) -> Tensor:
        """σ(x) of features (n, d): (n, 1), in [0, 1]."""
        return torch.sigmoid(features @ self.confidence_weight + self.confidence_bias).unsqueeze(1)

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) -> (n, C)."""
        logits, confidence = self.frozen(features), self.confidence(features)
        return logits + confidence * (self.magnitudes * logits + self.margins)


@METHODS.register_module("disalign")
class DisAlign(Classifier):
    """Distribution alignment of stage 1's logits.

    Args:
        task: the task.
        rho: ρ of the class weights, from 0.
        recipe: how the calibration is trained, see :class:`lt_bench.fitting.HeadRecipe`.

    Raises:
        LTBenchError: ρ below 0, or so large that a class has no weight.
    """

    def __init__(self, task: Task, rho: float = 1.2, recipe: dict[str, Any] | None = None) -> None:
        super().__init__(task)
        self.weights = generalised_weights(task.counts, finite_number(rho, "disalign's rho"))
        self.recipe = HeadRecipe.of(recipe)

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Train the calibration on any head that gives logits (n, C)."""
        head = CalibratedHead(copy.deepcopy(stage.head), stage.feature_dim, self.task.num_classes)
        weights = self.weights.to(stage.device)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(at_least_float32(logits), labels, weight=weights)

        trainer = HeadTrainer(head, self.recipe, stage.device, loss=loss)
        data = stage.image_features(**self.recipe.drawing({"type": "instance"}))
        trainer.train(data)
        return FittedClassifier(trainer.head)
