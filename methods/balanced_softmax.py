"""Balanced Softmax (Ren, Yu, Sheng, Ma, Zhao, Yi and Li, "Balanced Meta-Softmax for Long-Tailed Visual
Recognition", NeurIPS 2020, theorem 1).

    L = -(1/B) Σ_i log( n_{y_i} e^{z_{i,y_i}} / Σ_j n_j e^{z_ij} ) = (1/B) Σ_i CE(z_i + log n, y_i).

There is nothing to set. At test time the logits z are taken without log n, for a balanced test set.

Of the paper's two parts this is the loss; its meta sampler, which learns class sampling rates on a
held-out balanced set, is not part of it. A constant added to all logits changes no softmax, so log π,
π_j = n_j / N, is added instead of log n: the same loss with smaller numbers. It equals the logit-adjusted
loss of Menon et al. (ICLR 2021) with τ = 1 and has a file of its own because tables list both.

On CIFAR-100-LT (IF 100, ResNet-32, seed 0) it gives 41.3 at the last epoch, BagofTricks-LT's rerun 42.99.
Their recipe differs a little (Nesterov momentum, the warm-up), their config tests the best of all epochs, and
rounding alone moves a result as far: by the name of logit adjustment the same loss gives 42.5 here, from the
same weights and batches, on one CPU thread where this was trained on two. (The authors' own code has another
recipe, 13,000 steps of batch 512 with a cosine.)
"""

from __future__ import annotations

from torch import Tensor

from lt_bench.losses.class_priors import log_prior, prior_cross_entropy
from lt_bench.method import Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task


@METHODS.register_module("balanced_softmax")
class BalancedSoftmax(Representation):
    """Stage 1 by the balanced softmax.

    Args:
        task: the task.
    """

    log_prior: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.register_buffer("log_prior", log_prior(task.counts), persistent=False)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The balanced softmax loss of logits (B, C) for labels (B,)."""
        return prior_cross_entropy(logits, labels, self.log_prior)
