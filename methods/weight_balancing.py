"""Weight balancing (Alshammari, Wang, Ramanan and Kong, "Long-Tailed Recognition via Weight Balancing",
CVPR 2022), stage 2: the classifier of a stage 1 that was trained with a larger weight decay.

Stage 1 is cross-entropy with the weight decay tuned (section 3; 5e-3 on CIFAR-100-LT, imbalance 100, with
lr 0.01, batch 64 and a cosine to 0): a matter of the config. Stage 2 goes on with stage 1's classifier on
the frozen backbone by projected SGD, with class-balanced loss, weight decay and MaxNorm (section 4):

    min_w  Σ_i L_CB(z_i, y_i) + decay   subject to  ||w_j|| <= δ  for every class j,
    after a step  w_j <- min(1, δ / ||w_j||) w_j

δ is that of the released code: with the norms of stage 1's rows, δ = min_j ||w_j|| + t (max_j ||w_j|| -
min_j ||w_j||) with t = 0.1, set once per layer before stage 2. A bias vector has an infinite δ there, so
here too the bias is not projected; it decays. 10 epochs, lr 0.01, weight decay 0.1, batch 64, cosine,
image-balanced sampling.

The class-balanced loss weighs a sample by the effective number of its class, β = .9999, scaled to sum to C
(Cui et al., CVPR 2019). Of it there are two forms:

    binary   w_y / C · (-log p_y - Σ_{j≠y} log(1 - p_j)),  p = softmax(z), mean over the batch; what the
             released code computes, and what its weight decay of 0.1 was tuned with
    softmax  -w_y log p_y, mean over the batch: Cui et al.'s own softmax form

Departures: the backbone is in eval mode (the released code lets the batch statistics of the frozen
backbone move on), rows are projected after every step (its loop projects after every epoch), the rate of
epoch e is that of :class:`lt_bench.fitting.HeadRecipe` (its loop steps the schedule first and spends the
last epoch at rate 0), the last epoch is kept (its loop keeps the best on the test images), and the
logarithms of the binary form are exact (its stop at -100, where the gradient is lost). Its stage 1 hands over
the epoch that is best on the test images, here the last; its long-tailed draw takes the first n_j images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number
from lt_bench.errors import LTBenchError
from lt_bench.fitting import HeadRecipe, HeadTrainer
from lt_bench.losses.class_weights import class_balanced_cross_entropy, effective_number_weights
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Classifier, FittedClassifier, TrainedRepresentation
from lt_bench.registry import METHODS
from lt_bench.task import Task


def balanced_binary(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Class-balanced binary cross-entropy of the softmax's probabilities, as the released code has it.

    Args:
        logits: (B, C) float.
        labels: (B,) int64.
        weights: (C,) float, one a class.

    Returns:
        The mean over the batch and the classes, a scalar of float32 or wider.
    """
    log_p = F.log_softmax(at_least_float32(logits), 1)
    # 1 - p of the likeliest class is the sum of the others: taken from p itself it rounds to 0.
    likeliest = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, likeliest, -torch.inf).logsumexp(1, keepdim=True)
    log_rest = torch.log1p(-log_p.exp().scatter(1, likeliest, 0)).scatter(1, likeliest, others)
    positive = labels.unsqueeze(1) == torch.arange(logits.shape[1], device=labels.device)
    weight = weights.to(log_p.dtype).index_select(0, labels).unsqueeze(1)
    return -(weight * torch.where(positive, log_p, log_rest)).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "binary": balanced_binary,
    "softmax": class_balanced_cross_entropy,
}


def max_norm_radius(weight: Tensor, threshold: float) -> Tensor:
    """δ = min_j ||w_j|| + t (max_j ||w_j|| - min_j ||w_j||), the released code's choice.

    Args:
        weight: (C, d), stage 1's rows.
        threshold: t, in [0, 1]; 1 is the largest norm.

    Returns:
        A scalar tensor.
    """
    norms = weight.norm(dim=1)
    return norms.min() + threshold * (norms.max() - norms.min())


def project_rows(weight: Tensor, radius: Tensor) -> None:
    """Scale every row of (C, d) that is longer than the radius back to it, in place (section 4)."""
    norms = weight.norm(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    weight.mul_((radius / norms).clamp_max(1))


@METHODS.register_module("weight_balancing")
class WeightBalancing(Classifier):
    """Stage 2 of weight balancing: class-balanced loss, weight decay and MaxNorm.

    Args:
        task: the task.
        threshold: t of the radius, in [0, 1].
        beta: β of the class weights, in [0, 1).
        loss: ``binary`` or ``softmax``.
        recipe: how the classifier is trained, see :class:`lt_bench.fitting.HeadRecipe`.

    Raises:
        LTBenchError: a threshold or β out of range, or an unknown loss.
    """

    recipe_defaults: ClassVar[dict[str, Any]] = {"batch_size": 64, "lr": 0.01, "weight_decay": 0.1}

    def __init__(
        self,
        task: Task,
        threshold: float = 0.1,
        beta: float = 0.9999,
        loss: str = "binary",
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(task)
        self.threshold = finite_number(threshold, "weight_balancing's threshold")
        if self.threshold > 1:
            raise LTBenchError(
                f"weight_balancing's threshold is from 0 (least norm) to 1 (largest norm), got {threshold!r}"
            )
        if loss not in LOSSES:
            raise LTBenchError(f"weight_balancing's loss is one of {', '.join(LOSSES)}; got {loss!r}")
        self.weights = effective_number_weights(task.counts, beta)
        self.loss = LOSSES[loss]
        self.recipe = HeadRecipe.of(recipe, **self.recipe_defaults)

    def check_head(self, head: nn.Module) -> None:
        """Only a linear head has rows whose norms can be bounded."""
        if not isinstance(head, nn.Linear):
            raise LTBenchError(
                "weight_balancing bounds the norms of a linear stage-1 head's rows, got "
                f"{type(head).__name__}; choose another classifier for this representation"
            )

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Go on with stage 1's classifier.

        Raises:
            LTBenchError: stage 1's head is not linear.
        """
        self.check_head(stage.head)
        head = cast(nn.Linear, copy.deepcopy(stage.head)).requires_grad_(True)
        radius = max_norm_radius(head.weight.detach(), self.threshold)
        weights = self.weights.to(stage.device)
        trainer = HeadTrainer(
            head,
            self.recipe,
            stage.device,
            loss=lambda logits, labels: self.loss(logits, labels, weights),
            after_step=lambda: project_rows(head.weight, radius),
        )
        data = stage.image_features(**self.recipe.drawing({"type": "instance"}))
        trainer.train(data)
        return FittedClassifier(trainer.head, notes={"max_norm_radius": float(radius)})
