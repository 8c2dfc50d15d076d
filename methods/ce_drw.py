"""CE-DRW, cross-entropy with deferred re-weighting (Cao, Wei, Gaidon, Arechiga and Ma, "Learning Imbalanced
Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, algorithm 1 with cross-entropy).

Until 80% of the epochs, L = -(1/B) Σ_i log p_{i,y_i}; after it

    L = -Σ_i w_{y_i} log p_{i,y_i} / Σ_i w_{y_i},    w_j ~ (1 - β) / (1 - β^{n_j}), β = .9999,

the weights by the effective number of samples (Cui et al., CVPR 2019). As in the released code the mean
divides by the batch's sum of weights, so the loss keeps its scale at the switch; Cui et al. divide by B
(:mod:`methods.cb_ce`).

On CIFAR-100-LT (IF 100, ResNet-32, seed 0) it gives 41.9. BagofTricks-LT's rerun with weights 1 / n_j, which
β = .9999 gives within 2.5% for counts to 500, is 41.62; its 39.21 with class-balanced weights is of β = .9,
whose weights differ by a factor of 2.4 at most and so hardly re-balance.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lt_bench.arguments import finite_number
from lt_bench.deferred import check_fraction, has_switched
from lt_bench.losses.class_weights import effective_number_weights
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """-Σ_i w_{y_i} log p_{i,y_i} / Σ_i w_{y_i}.

    Args:
        logits: (B, C) floating point.
        labels: (B,) int64.
        weights: (C,) class weights above 0.

    Returns:
        () float32, or float64 for float64 logits.
    """
    logits = at_least_float32(logits)
    return F.cross_entropy(logits, labels, weight=weights.to(logits.dtype))


@METHODS.register_module("ce_drw")
class CEDRW(Representation):
    """Stage 1 by cross-entropy, whose classes are weighted in the last epochs.

    Args:
        task: the task.
        beta: β of the deferred weights, in [0, 1).
        deferred: fraction of the epochs before the re-weighting, in [0, 1].

    Raises:
        LTBenchError: a number out of its range.
    """

    weights: Tensor

    def __init__(self, task: Task, beta: float = 0.9999, deferred: float = 0.8) -> None:
        super().__init__(task)
        finite_number(beta, "ce_drw's beta")
        check_fraction(deferred)
        self.deferred = deferred
        self.register_buffer("weights", effective_number_weights(task.counts, beta), persistent=False)
        self._reweighting = False

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Weigh the classes from the switch on."""
        self._reweighting = has_switched(epoch, epochs, self.deferred)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits (B, C) for labels (B,), weighted after the switch."""
        if self._reweighting:
            return weighted_cross_entropy(logits, labels, self.weights)
        return F.cross_entropy(at_least_float32(logits), labels)
