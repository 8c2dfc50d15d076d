"""Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, section 2).

    x~ = λ x_i + (1 - λ) x_j,   L = λ CE(z(x~), y_i) + (1 - λ) CE(z(x~), y_j),   λ ~ Beta(α, α)

As in the released code there is one λ a batch, and the partners j are a permutation of the batch. α = 1
there and in MiSLAS's code for CIFAR-LT; MiSLAS has 0.2 on ImageNet-LT. The recipe is the config's.

On CIFAR-100-LT (IF 100, ResNet-32, seed 0) it gives 39.2 at the last epoch. Published figures are 39.5
(MiSLAS's README, and Table 3 of Tang et al., NeurIPS 2020) and 40.82 (BagofTricks-LT): the latter's config
trains 400 epochs with Nesterov momentum and tests the best of them.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.mixing import LEAST_ALPHA, mix, mixed_cross_entropy, mixing_coefficient
from lt_bench.method import Representation
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task


@METHODS.register_module("mixup")
class Mixup(Representation):
    """Cross-entropy on mixtures of images.

    Args:
        task: the task.
        alpha: α of the Beta distribution, at least 0.05 (what float32 can draw).

    Raises:
        LTBenchError: α is below that or not finite.
    """

    # The head sees mixtures only.
    capture: ClassVar[str] = "epoch_end"

    def __init__(self, task: Task, alpha: float = 1.0) -> None:
        super().__init__(task)
        if not isinstance(alpha, (int, float)) or not LEAST_ALPHA <= alpha < math.inf:
            raise LTBenchError(
                f"mixup's alpha is a number from {LEAST_ALPHA}, got {alpha!r}; "
                "without mixing, use the representation 'plain'"
            )
        self.alpha = float(alpha)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """The loss of a batch mixed with a permutation of itself, a scalar."""
        device, share = batch.images.device, batch.share
        coefficient = mixing_coefficient(self.alpha, device)
        partner = torch.randperm(batch.total, device=device)
        images = batch.of_all(batch.images)
        if share is None:
            mixed = mix(images, partner, coefficient)
        else:
            # One draw for all ranks, whose partners come from the whole of the global batch.
            share.of_first(coefficient)
            share.of_first(partner)
            mixed = mix(images, partner, coefficient).index_select(0, share.places)
        logits, labels = batch.gathered(model.head(model.features(mixed)))
        return mixed_cross_entropy(logits, labels, partner, coefficient)
