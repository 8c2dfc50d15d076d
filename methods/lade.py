"""LADE (Hong, Han, Choi, Seo, Kim and Chang, "Disentangling Label Distribution for Long-tailed Visual
Recognition", CVPR 2021, section 3).

L = L_CE + w L_LADER. The first term is cross-entropy with the training prior p_s in the softmax,

    L_CE = (1/B) Σ_i CE(z_i + log p_s, y_i),

the balanced softmax's form; predicting for a test prior p_t is softmax(z + log p_t) (PC softmax), for a
uniform one the logits z as they are. The second makes z_c the logarithm of p_u(x|c) / p_u(x), p_u uniform
over classes, by the regularised Donsker-Varadhan bound of each class, on the logits without prior:

    L_LADER = Σ_c α_c [ -(1/N_c) Σ_{i: y_i = c} z_ic + M_c + λ M_c² ],
    M_c = log( (1/B) Σ_i (p_u(y_i) / p_s(y_i)) e^{z_ic} ),

where N_c counts class c in the batch; α_c = p_s(c) (``class_weights="source"``). Released commands have λ
(``remine_lambda``) 0.01 and w (``estim_loss_weight``) 0.1 on CIFAR-100-LT at imbalance 100, 0.5 and 0.05 on
ImageNet-LT, 0.1 and 0.005 on Places-LT; the defaults here, 0.1 and 0.1, are those of its configs.

Departures:

* The ratio in M_c belongs to sample i, as importance sampling of p_u(x) wants it. The released code takes
  the ratio of the logit's class c, which shifts M_c by a constant of the class; the paper's form is used.
* A class that the batch lacks has no bound and adds nothing. In the released code its M_c + λ M_c² stays.
* The recipe is that of the config; the released code trains CIFAR-100-LT with batch 256, rate 0.2, divided
  by 100 at 120 and 160, weight decay 5e-4, and a ResNet-32 that has its last block twice, 128 features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lt_bench.arguments import finite_number
from lt_bench.errors import LTBenchError
from lt_bench.losses.class_priors import log_prior, prior_cross_entropy
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task

CLASS_WEIGHTS = ("source", "target")


def lader(
    logits: Tensor,
    labels: Tensor,
    log_ratio: Tensor,
    class_weights: Tensor,
    remine_lambda: float,
) -> Tensor:
    """The label distribution disentangling regulariser, Σ_c α_c (...) above (Hong et al. 2021).

    Args:
        logits: (B, C) floating point, without prior.
        labels: (B,) int64.
        log_ratio: (C,) log(p_u(c) / p_s(c)).
        class_weights: (C,) α_c.
        remine_lambda: λ, from 0.

    Returns:
        () float32, or float64 for float64 logits.
    """
    logits = at_least_float32(logits)
    batch, num_classes = logits.shape
    members = labels.unsqueeze(1) == torch.arange(num_classes, device=logits.device)
    sizes = members.sum(0)
    own = torch.where(members, logits, 0.0).sum(0) / sizes.clamp_min(1)
    of_sample = log_ratio.to(logits.dtype).index_select(0, labels).unsqueeze(1)
    marginal = (logits + of_sample).logsumexp(0) - math.log(batch)
    bounds = marginal - own + remine_lambda * marginal.square()
    return (class_weights.to(logits.dtype) * torch.where(sizes > 0, bounds, 0.0)).sum()


@METHODS.register_module("lade")
class LADE(Representation):
    """Stage 1 by the LADE loss.

    Args:
        task: the task.
        remine_lambda: λ of the regularised bound, from 0.
        estim_loss_weight: w of the regulariser, from 0; 0 is the balanced softmax.
        class_weights: α_c: ``"source"`` for the training prior p_s(c), ``"target"`` for the uniform 1 / C.

    Raises:
        LTBenchError: a number out of its range, or unknown class weights.
    """

    log_prior: Tensor
    log_ratio: Tensor
    class_weights: Tensor

    def __init__(
        self,
        task: Task,
        remine_lambda: float = 0.1,
        estim_loss_weight: float = 0.1,
        class_weights: str = "source",
    ) -> None:
        super().__init__(task)
        self.remine_lambda = finite_number(remine_lambda, "lade's remine_lambda")
        self.estim_loss_weight = finite_number(estim_loss_weight, "lade's estim_loss_weight")
        if class_weights not in CLASS_WEIGHTS:
            raise LTBenchError(
                f"lade's class_weights is one of {', '.join(CLASS_WEIGHTS)}, got {class_weights!r}"
            )
        source = log_prior(task.counts)
        uniform = torch.full_like(source, -math.log(task.num_classes))
        self.register_buffer("log_prior", source, persistent=False)
        self.register_buffer("log_ratio", uniform - source, persistent=False)
        weights = source if class_weights == "source" else uniform
        self.register_buffer("class_weights", weights.exp(), persistent=False)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The LADE loss of logits (B, C) for labels (B,)."""
        cross_entropy = prior_cross_entropy(logits, labels, self.log_prior)
        regulariser = lader(logits, labels, self.log_ratio, self.class_weights, self.remine_lambda)
        return cross_entropy + self.estim_loss_weight * regulariser
