"""CB-Focal, class-balanced focal loss (Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based on
Effective Number of Samples", CVPR 2019, section 4.3).

The focal loss of per-class sigmoids, each sample weighted by its class's effective number of samples:

    L = (1/B) Σ_i w_{y_i} Σ_c m_ic · BCE_ic,    w_j ~ (1 - β) / (1 - β^{n_j}), Σ_j w_j = C,

    BCE_ic = -log σ(z_ic) and m_ic = (1 - σ(z_ic))^γ for c = y_i,
    BCE_ic = -log (1 - σ(z_ic)) and m_ic = σ(z_ic)^γ for the other classes.

β = .9999 and γ = 1 unless given (the released script for CIFAR; that for iNaturalist 2018 has .999 and .5).
As in the released code, the bias of the last layer starts at -log(C - 1), so that every class starts at
probability 1/C and the C - 1 negatives of a sample do not swamp its positive, and takes no weight decay.
The mean is over the B samples of the batch, not over their weights.

Everything is computed from log σ(u), u = z for the positive and -z for a negative, by which m and BCE stay
finite and differentiable for any logits and any γ ≥ 0.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number
from lt_bench.losses.class_weights import effective_number_weights
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task


def class_balanced_focal_loss(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """(1/B) Σ_i w_{y_i} Σ_c m_ic BCE_ic (Cui et al. 2019, section 4.3).

    Args:
        logits: (B, C) floating point.
        labels: (B,) int64.
        weights: (C,) w_j.
        gamma: γ, from 0; 0 is the class-balanced sigmoid cross-entropy.

    Returns:
        () float32, or float64 for float64 logits.
    """
    logits = at_least_float32(logits)
    positive = labels.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device)
    signed = torch.where(positive, logits, -logits)
    losses = -(gamma * F.logsigmoid(-signed)).exp() * F.logsigmoid(signed)
    of_sample = weights.to(logits.dtype).index_select(0, labels)
    return (of_sample * losses.sum(1)).mean()


@METHODS.register_module("cb_focal")
class CBFocal(Representation):
    """Stage 1 by the class-balanced focal loss of per-class sigmoids.

    Args:
        task: the task.
        beta: β of the effective number, in [0, 1).
        gamma: γ, from 0.

    Raises:
        LTBenchError: a β outside of [0, 1), or a γ below 0 or not finite.
    """

    weights: Tensor

    def __init__(self, task: Task, beta: float = 0.9999, gamma: float = 1.0) -> None:
        super().__init__(task)
        finite_number(beta, "cb_focal's beta")
        self.gamma = finite_number(gamma, "cb_focal's gamma")
        self.register_buffer("weights", effective_number_weights(task.counts, beta), persistent=False)

    def build_head(self, feature_dim: int) -> nn.Linear:
        """A linear head (B, d) -> (B, C) whose bias starts at -log(C - 1)."""
        head = nn.Linear(feature_dim, self.task.num_classes)
        nn.init.constant_(head.bias, -math.log(self.task.num_classes - 1))
        return head

    def paramwise(self) -> dict[str, Any]:
        """No weight decay on the head's bias, which would pull it back from -log(C - 1)."""
        return {"custom_keys": {"head.bias": {"decay_mult": 0.0}}}

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The class-balanced focal loss of logits (B, C) for labels (B,)."""
        return class_balanced_focal_loss(logits, labels, self.weights, self.gamma)
