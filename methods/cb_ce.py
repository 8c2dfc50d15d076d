"""CB-CE, class-balanced softmax cross-entropy (Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based
on Effective Number of Samples", CVPR 2019, eq. 10).

    L = -(1/B) Σ_i w_{y_i} log softmax(z_i)_{y_i},    w_j ~ (1 - β) / (1 - β^{n_j}), Σ_j w_j = C.

β = .9999 unless given.

The mean divides by the number of samples B, as the paper's loss is one weighted term a sample. Dividing by
the batch's sum of weights instead (what a weighted mean and LDAM-DRW's code do) would make the weight of a
sample depend on which others are in its batch, and in a batch of one class cancel the weights altogether.
With Σ_j w_j = C a class-balanced batch has mean weight 1, so the loss keeps cross-entropy's scale; under
image-balanced sampling the mean weight Σ_j π_j w_j is below 1, and the effective learning rate with it.
"""

from __future__ import annotations

from torch import Tensor

from lt_bench.arguments import finite_number
from lt_bench.losses.class_weights import class_balanced_cross_entropy, effective_number_weights
from lt_bench.method import Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task


@METHODS.register_module("cb_ce")
class CBCE(Representation):
    """Stage 1 by class-balanced cross-entropy.

    Args:
        task: the task.
        beta: β of the effective number, in [0, 1); 0 is cross-entropy.

    Raises:
        LTBenchError: a β outside of [0, 1).
    """

    weights: Tensor

    def __init__(self, task: Task, beta: float = 0.9999) -> None:
        super().__init__(task)
        finite_number(beta, "cb_ce's beta")
        self.register_buffer("weights", effective_number_weights(task.counts, beta), persistent=False)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Class-balanced cross-entropy of logits (B, C) for labels (B,)."""
        return class_balanced_cross_entropy(logits, labels, self.weights)
