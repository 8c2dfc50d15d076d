"""RIDE (Wang, Lian, Miao, Liu and Yu, "Long-tailed Recognition by Routing Diverse Distribution-Aware
Experts", ICLR 2021); settings of the released CIFAR-100-LT configuration.

E = 3 experts on a shared trunk (:mod:`lt_bench.models.experts`), z_e the logits of expert e and z =
mean_e z_e the prediction. Stage 1 minimises, as a *sum* over experts,

    L = sum_e [ L_classify(z_e, y) - lambda * tbar^2 * KL( softmax(z / t) || softmax(z_e / t) ) ]

* L_classify (section 3.1) is each expert's own loss: LDAM (Cao et al., NeurIPS 2019) on cosine logits
  z_ej = s cos(z_e, w_ej), CE(z_e - s m_y 1[j = y]), m_j ~ n_j^(-1/4) with the largest m = 0.5 and s = 30;
  after the switch epoch (160 of 200) with class weights (1 - beta) / (1 - beta^n_j), beta = .9999. Or
  plain cross-entropy, ``individual="ce"``, with a linear head.
* The second term (section 3.1, distribution-aware diversity loss) drives the experts apart; lambda = 0.2.
  The temperature of class j is t_j = T before the switch, and after it

      t_j = T * psi_j / max_k psi_k,    psi_j = gamma * C n_j / N + 1 - gamma,

  T = 1 (``base_diversity_temperature``), gamma = .05 (``reweight_factor``); tbar is the mean of t. The
  temperatures of few-shot classes are lower, so that experts differ most there. No gradient flows through z
  in it.

The paper's term is the mean over pairs of KL(p_e || p_e'), and its temperature is alpha * (psi_j + 1 -
max psi); the formulas above are the released code's, which compares with the mean in linear time, has the
mean as the first argument, and divides by the largest psi. They are followed here.

Departures: rows of the cosine heads start with a norm of 0.58, in the code with 1. The code drops to a loss
on the mean logits where lambda = 0 (its "collaborative" ablation); here lambda = 0 leaves the individual
losses. Training images of CIFAR are rotated by up to 15 degrees, as released; those of the other datasets
here are not. Distillation from a teacher of six experts is not part of this method. The code's RIDE
prediction on CIFAR is that of stage 2 where experts are routed, ``ride_routing``; with the kept head all
experts are asked.

On CIFAR-100-LT (IF 100, ResNet-32, seed 0) it gives 48.5, by groups 66.7/49.9/25.5, and routed, at 2.1
experts an image, 47.7 and 66.0/49.2/24.6. Its model zoo's 48.6 and 67.0/49.9/25.7 are of routed experts.

Routing, stage 2 (section 3.2, eq. 5; the code's "EA"): for e = 1..E-1 a binary classifier on expert e's
features says whether expert e + 1 shall be asked too. Its input is a 16-dimensional hidden layer (ReLU)
on the L2-normalised feature, beside the k = 30 largest logits of the mean of experts 1..e; hidden layers
are each expert's own, the last layer is shared. With y_e = 1 where the mean of experts 1..e errs and that
of some later number of experts is right,

    L_routing = 1/(E-1) sum_e mean_i [ -w_p y log sigma(a) - (1 - y) log(1 - sigma(a)) ],   w_p = 100.

At test time experts are asked in turn while sigma(a) > 1/2, and the prediction is the mean of those
asked. What it saves is computation, which features that are made once for all cannot show: the mean
number of experts asked is noted in the record instead. Departures: no Nesterov momentum; class-aware
sampling of one image a visit in the place of the code's uniform draw of a class; k is at most C.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number, is_whole
from lt_bench.data.batch import Batch
from lt_bench.deferred import check_fraction, has_switched
from lt_bench.errors import LTBenchError
from lt_bench.fitting import HeadRecipe, HeadTrainer
from lt_bench.losses.class_weights import effective_number_weights
from lt_bench.losses.margins import label_aware_margins, margin_cross_entropy
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Classifier, FittedClassifier, Representation, TrainedRepresentation
from lt_bench.models.expert_head import ExpertHead
from lt_bench.models.experts import expert_backbone
from lt_bench.models.heads import linear_head
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed
from lt_bench.task import Task

INDIVIDUAL = ("ldam", "ce")


def diversity_temperatures(counts: Tensor, base: float, reweight_factor: float) -> Tensor:
    """t_j = T psi_j / max psi, psi_j = gamma C n_j / N + 1 - gamma (section 3.1, released form).

    Args:
        counts: (C,) int64, training images of each class.
        base: T.
        reweight_factor: gamma, in [0, 1].

    Returns:
        (C,) float32, positive, the most frequent class's is T.

    Raises:
        LTBenchError: a factor outside of [0, 1), which would make a temperature 0 or less.
    """
    if not 0 <= reweight_factor < 1:
        raise LTBenchError(f"ride's reweight_factor is from 0 to below 1, got {reweight_factor!r}")
    psi = reweight_factor * len(counts) * counts.double() / counts.sum() + 1 - reweight_factor
    return (base * psi / psi.max()).float()


def individual_loss(logits: Tensor, labels: Tensor, offsets: Tensor | None, weights: Tensor | None) -> Tensor:
    """sum_e CE(z_e - offset_y 1[j = y]), each mean weighted by the class weights.

    Args:
        logits: (B, E, C).
        labels: (B,) int64.
        offsets: (C,) what is taken off the logit of the true class, s m_j; None takes nothing.
        weights: (C,) class weights; the mean divides by their sum over the batch. None weighs all alike.

    Returns:
        A scalar.
    """
    experts, classes = logits.shape[1:]
    taken = logits.new_zeros(classes) if offsets is None else offsets
    # Every expert has the same sum of weights: the mean over all rows is the mean of the experts' means.
    rows, repeated = logits.flatten(0, 1), labels.repeat_interleave(experts)
    return experts * margin_cross_entropy(rows, repeated, taken, weights)


def diversity(logits: Tensor, temperatures: Tensor) -> Tensor:
    """sum_e tbar^2 KL(softmax(z / t) || softmax(z_e / t)), z the mean of z_e without gradient.

    Args:
        logits: (B, E, C).
        temperatures: (C,) t_j.

    Returns:
        A scalar, the mean over the batch; not negative.
    """
    logits = at_least_float32(logits)
    scale = temperatures.to(logits.dtype)
    own = F.log_softmax(logits / scale, dim=2)
    mean = F.log_softmax(logits.detach().mean(1, keepdim=True) / scale, dim=2)
    divergence = F.kl_div(own, mean.expand_as(own), reduction="sum", log_target=True) / len(logits)
    return scale.mean().square() * divergence


@METHODS.register_module("ride")
class RIDE(Representation):
    """Diverse distribution-aware experts.

    Args:
        task: the task.
        experts: E, as the backbone's.
        individual: each expert's own loss: ``ldam`` (with a cosine head, class weights after the switch) or
            ``ce`` (with a linear one and no weights; the classes' temperatures still apply).
        max_margin: LDAM's largest margin.
        scale: s, factor of the cosines.
        diversity_factor: lambda; the released code calls -lambda ``additional_diversity_factor``.
        base_diversity_temperature: T.
        reweight_factor: gamma of the classes' temperatures.
        reweight_after: fraction of the epochs after which class weights and the classes' temperatures
            apply; 1 never does.
        beta: of the class weights.

    Raises:
        LTBenchError: a choice that does not exist or a number out of range.
    """

    class_weights: Tensor
    offsets: Tensor
    class_temperatures: Tensor
    base_temperatures: Tensor

    def __init__(
        self,
        task: Task,
        experts: int = 3,
        individual: str = "ldam",
        max_margin: float = 0.5,
        scale: float = 30.0,
        diversity_factor: float = 0.2,
        base_diversity_temperature: float = 1.0,
        reweight_factor: float = 0.05,
        reweight_after: float = 0.8,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(task)
        if individual not in INDIVIDUAL:
            raise LTBenchError(f"ride's individual is one of {', '.join(INDIVIDUAL)}; got {individual!r}")
        if not is_whole(experts, 2):
            raise LTBenchError(f"ride's experts is a whole number from 2, got {experts!r}")
        if finite_number(base_diversity_temperature, "ride's base_diversity_temperature") == 0:
            raise LTBenchError("ride's base_diversity_temperature is above 0, got 0")
        check_fraction(reweight_after)
        self.num_experts = experts
        self.individual = individual
        self.scale = finite_number(scale, "ride's scale")
        self.diversity_factor = finite_number(diversity_factor, "ride's diversity_factor")
        self.reweight_after = reweight_after
        self.reweighted = False
        counts = task.counts
        derived = {
            "class_weights": effective_number_weights(counts, beta),
            "offsets": self.scale
            * label_aware_margins(counts, finite_number(max_margin, "ride's max_margin")),
            "class_temperatures": diversity_temperatures(counts, base_diversity_temperature, reweight_factor),
            "base_temperatures": torch.full((len(counts),), float(base_diversity_temperature)),
        }
        for name, value in derived.items():
            self.register_buffer(name, value, persistent=False)

    def build_head(self, feature_dim: int) -> nn.Module:
        """A classifier an expert, cosine for LDAM."""
        kind = "cosine" if self.individual == "ldam" else "linear"
        return ExpertHead(feature_dim, self.task.num_classes, self.num_experts, kind, self.scale)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Class weights and the classes' temperatures from the epoch after the switch."""
        self.reweighted = has_switched(epoch, epochs, self.reweight_after)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of all experts' logits (B, E, C) for labels (B,)."""
        ldam = self.individual == "ldam"
        loss = individual_loss(
            logits,
            labels,
            self.offsets if ldam else None,
            # The code's reweighting belongs to its LDAM branch.
            self.class_weights if ldam and self.reweighted else None,
        )
        temperatures = self.class_temperatures if self.reweighted else self.base_temperatures
        return loss - self.diversity_factor * diversity(logits, temperatures)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """The loss of a batch.

        Raises:
            LTBenchError: the backbone has not E experts.
        """
        expert_backbone(model.backbone, self.num_experts, "ride")
        return self.criterion(*batch.gathered(model.head(model.features(batch.images), each=True)))


def prefix_means(logits: Tensor) -> Tensor:
    """Means of the first 1, 2, ..., E experts' logits: (B, E, C) -> (B, E, C)."""
    numbers = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype)
    return logits.cumsum(1) / numbers.view(1, -1, 1)


def routing_targets(right: Tensor) -> Tensor:
    """Whether another expert shall be asked: the first e err and some later number of them is right.

    Args:
        right: (B, E) bool, whether the mean of the first 1, ..., E experts is right.

    Returns:
        (B, E - 1) bool.
    """
    # Counted from the last expert backwards: how many prefixes from here on are right.
    from_here = right.long().flip(1).cumsum(1).flip(1)
    return ~right[:, :-1] & (from_here[:, 1:] > 0)


def routing_loss(asks: Tensor, right: Tensor, pos_weight: float) -> Tensor:
    """L_routing (eq. 5), the mean over experts and images of the weighted binary cross-entropy.

    Args:
        asks: (B, E - 1) logits.
        right: (B, E) bool, see :func:`routing_targets`.
        pos_weight: w_p.

    Returns:
        A scalar.
    """
    return F.binary_cross_entropy_with_logits(
        asks,
        routing_targets(right).to(asks.dtype),
        pos_weight=asks.new_full((1,), pos_weight),
    )


def experts_asked(asks: Tensor) -> Tensor:
    """How many experts each image asks: one, and on while the logits are above 0; (B, E-1) -> (B,) int64."""
    return 1 + (asks > 0).long().cumprod(1).sum(1)


class RoutingHead(nn.Module):
    """A frozen head of experts and the classifiers that say who else is asked.

    Args:
        head: the trained head.
        top_choices: k.
        hidden: width of the hidden layers.
        seed: of the new weights.
    """

    def __init__(self, head: ExpertHead, top_choices: int, hidden: int, seed: int) -> None:
        super().__init__()
        self.head = head.requires_grad_(False)
        classes, dim = head.weight.shape[1:]
        self.top_choices = min(top_choices, classes)
        self.hidden = nn.ModuleList(
            linear_head(dim, hidden, derive_seed(seed, "hidden", e)) for e in range(head.num_experts - 1)
        )
        self.output = linear_head(hidden + self.top_choices, 1, derive_seed(seed, "output"))

    def asks(self, features: Tensor, means: Tensor) -> Tensor:
        """Logits of asking expert 2, ..., E: (B, E - 1).

        Args:
            features: (B, E * d).
            means: (B, E, C), see :func:`prefix_means`.
        """
        parts = F.normalize(self.head.parts(features), dim=2)
        hidden = torch.stack([F.relu(layer(parts[:, e])) for e, layer in enumerate(self.hidden)], dim=1)
        largest = means[:, :-1].topk(self.top_choices, dim=2).values
        return self.output(torch.cat([largest, hidden], dim=2)).squeeze(2)

    def forward(self, features: Tensor) -> Tensor:
        """(B, E * d) -> (B, C), the mean of the logits of the experts that were asked."""
        means = prefix_means(self.head.experts(features))
        asked = experts_asked(self.asks(features, means))
        return means[torch.arange(len(means), device=means.device), asked - 1]


class _RoutersInTraining(nn.Module):
    """What the trainer sees: (B, E * d) -> (B, 2E - 1), the asks and the class each prefix predicts."""

    def __init__(self, routing: RoutingHead) -> None:
        super().__init__()
        self.routing = routing

    def forward(self, features: Tensor) -> Tensor:
        """Class numbers are exact in float32."""
        means = prefix_means(self.routing.head.experts(features))
        asks = self.routing.asks(features, means)
        return torch.cat([asks, means.argmax(2).to(asks.dtype)], dim=1)


@METHODS.register_module("ride_routing")
class RIDERouting(Classifier):
    """Stage 2 of RIDE: who else is asked.

    Args:
        task: the task.
        pos_weight: w_p.
        top_choices: k.
        hidden: width of the hidden layers.
        sampler: how images are drawn.
        recipe: how the routing classifiers are trained, see :class:`lt_bench.fitting.HeadRecipe`.

    Raises:
        LTBenchError: a number out of range.
    """

    # The released configuration of CIFAR-100-LT.
    recipe_defaults: ClassVar[dict[str, Any]] = {"epochs": 5, "batch_size": 512, "lr": 0.01}

    def __init__(
        self,
        task: Task,
        pos_weight: float = 100.0,
        top_choices: int = 30,
        hidden: int = 16,
        sampler: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(task)
        for name, value in (("top_choices", top_choices), ("hidden", hidden)):
            if not is_whole(value, 1):
                raise LTBenchError(f"ride_routing's {name} is a whole number from 1, got {value!r}")
        self.pos_weight = finite_number(pos_weight, "ride_routing's pos_weight")
        self.top_choices, self.hidden = top_choices, hidden
        self.sampler = dict(sampler or {"type": "class_aware", "per_visit": 1})
        self.recipe = HeadRecipe.of(recipe, **self.recipe_defaults)

    def check_head(self, head: nn.Module) -> None:
        """There must be somebody else to ask."""
        if not isinstance(head, ExpertHead) or head.num_experts < 2:
            raise LTBenchError(
                f"ride_routing wants a stage-1 head of two or more experts, got {type(head).__name__}; "
                "use representation ride or sade"
            )

    def drawing(self) -> dict[str, Any]:
        """Class-aware images, unless told otherwise."""
        return self.recipe.drawing(self.sampler)

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Train the routing classifiers on the frozen experts.

        Raises:
            LTBenchError: stage 1 has no head of two or more experts.
        """
        self.check_head(stage.head)
        seed = derive_seed(stage.seed, "ride_routing")
        head = cast(ExpertHead, copy.deepcopy(stage.head))
        routing, experts = RoutingHead(head, self.top_choices, self.hidden, seed), head.num_experts

        def loss(packed: Tensor, labels: Tensor) -> Tensor:
            asks, predicted = packed[:, : experts - 1], packed[:, experts - 1 :]
            return routing_loss(asks, predicted.detach() == labels.unsqueeze(1), self.pos_weight)

        trainer = HeadTrainer(_RoutersInTraining(routing), self.recipe, stage.device, loss=loss)
        trainer.train(stage.image_features(**self.drawing()))
        return FittedClassifier(routing.eval(), notes=self._asked(stage, routing))

    @staticmethod
    def _asked(stage: TrainedRepresentation, routing: RoutingHead) -> dict[str, Any]:
        """How many experts the test images ask, in the mean; nothing is chosen by it."""
        test = stage.features("test")
        if test is None:
            return {}
        with torch.no_grad():
            means = prefix_means(routing.head.experts(test.features))
            asked = experts_asked(routing.asks(test.features, means))
        return {"experts_asked_on_test": round(float(asked.double().mean()), 4)}
