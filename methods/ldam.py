"""LDAM-DRW (Cao, Wei, Gaidon, Arechiga and Ma, "Learning Imbalanced Datasets with Label-Distribution-Aware
Margin Loss", NeurIPS 2019, sections 3.2 and 3.3, algorithm 1; settings of the released code).

    L_i = CE(s (cos θ_ij - Δ_j 1[j = y_i])_j, y_i),    Δ_j = Δ n_j^{-1/4} / max_k n_k^{-1/4},

with cos θ_ij the cosine of feature z_i and row w_j of the classifier, scale s = 30 and largest margin
Δ = 0.5. Deferred re-weighting (DRW): uniform class weights for the first 80% of the epochs, then weights
by the effective number of samples with β = .9999; the weighted cross-entropy divides by the batch's sum of
weights, as the released code does. Rows of the classifier start with unit norm, as there.

The head's logits are s·cos θ, so that LWS, distillation and calibration see logits at the scale they were
trained at, and the margin is taken off as s·Δ_y in the loss alone. Evaluation has no margin.

On CIFAR-100-LT (IF 100, ResNet-32, seed 0) it gives 43.1, BagofTricks-LT's rerun of this recipe 42.47.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.arguments import finite_number
from lt_bench.deferred import check_fraction, has_switched
from lt_bench.losses.class_weights import effective_number_weights
from lt_bench.losses.margins import label_aware_margins, margin_cross_entropy
from lt_bench.method import Representation
from lt_bench.models.heads import CosineHead
from lt_bench.registry import METHODS
from lt_bench.task import Task


@METHODS.register_module("ldam")
class LDAM(Representation):
    """Stage 1 by the LDAM loss with deferred re-weighting.

    Args:
        task: the task.
        max_margin: Δ, the margin of the rarest class, from 0, in units of a cosine.
        scale: s, the factor of the cosines, from 0.
        beta: β of the deferred weights, in [0, 1).
        deferred: fraction of the epochs before the re-weighting; None or 1 for none (plain LDAM).

    Raises:
        LTBenchError: a number out of its range.
    """

    margins: Tensor
    weights: Tensor

    def __init__(
        self,
        task: Task,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float = 0.9999,
        deferred: float | None = 0.8,
    ) -> None:
        super().__init__(task)
        self.scale = finite_number(scale, "ldam's scale")
        finite_number(beta, "ldam's beta")
        margins = label_aware_margins(task.counts, finite_number(max_margin, "ldam's max_margin"))
        self.deferred = 1.0 if deferred is None else deferred
        check_fraction(self.deferred)
        self.register_buffer("margins", margins, persistent=False)
        self.register_buffer("weights", effective_number_weights(task.counts, beta), persistent=False)
        self._reweighting = False

    def build_head(self, feature_dim: int) -> CosineHead:
        """s·cos(z, w_j), (B, d) -> (B, C), with rows of unit norm at the start."""
        head = CosineHead(feature_dim, self.task.num_classes, self.scale)
        with torch.no_grad():
            # The gradient of a direction shrinks with the row's norm.
            head.weight.copy_(F.normalize(head.weight))
        return head

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Weigh the classes from the switch on."""
        self._reweighting = has_switched(epoch, epochs, self.deferred)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The LDAM loss of logits s·cos θ (B, C) for labels (B,)."""
        weights = self.weights if self._reweighting else None
        return margin_cross_entropy(logits, labels, self.scale * self.margins, weights)
