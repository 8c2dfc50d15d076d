"""LFME, the row "Distill" of long-tailed tables (Xiang, Ding and Han, "Learning From Multiple Experts:
Self-paced Knowledge Distillation for Long-Tailed Classification", ECCV 2020).

Three experts are trained first, one for each shot group, each on the images and classes of its group
alone. The student sees all classes, by class-aware sampling:

    L = (1/B) Σ_i v_i(e) CE(z_i, y_i) + Σ_g w_g (1/B) Σ_i KL( q_g(x_i) || p_g(x_i) ),

with q_g, p_g the softmax at temperature T = 2 over the classes of group g, of expert g's logits and of the
student's; as in the released code every expert teaches on every image, and no T² scales the divergence.
Both weights are self-paced:

* *group weight* w_g = 1 while the student's accuracy on group g is below 0.3 of its expert's, from there
  (A_E - A_S) / (0.7 A_E), not below 0; set after every epoch on the validation split. Where the student
  has caught up with an expert, it stops learning from it.
* *instance weight* v_i = the expert's probability of the true class, scaled within the class from its
  least to its greatest into [n_few / n_g, 1], n_g the mean training count of the group's classes and n_few
  that of the few-shot group; easy images of frequent classes come first. The schedule
  v_i(e) = v_i + (1 - v_i) min(e / E_1, 1), E_1 half of the epochs, ends with every image at weight 1.

Settings (released code): student 90 epochs, rate 0.1, divided by 10 at epochs 50 and 80, batch 256; experts
120 epochs, cosine, rate 0.1, batch 128, 64 and 32 for many-, medium- and few-shot. Here the student's
recipe is the config's stage 1, as for every other method; an expert has 4/3 of its epochs, half, a quarter
and an eighth of its batch, its rate, and a cosine.

Choices where the paper leaves one, and departures:

* The student's accuracy on a group is of predictions among all classes, the expert's among its own: what
  each of them is asked in use.
* Both accuracies are of the validation split without augmentation, v_i of the training images likewise.
* Groups are of the convention that the config names, ``strict`` if none; the released ones are
  ``inclusive`` (391, 463 and 146 classes of ImageNet-LT).
* A group without a class has no expert. The least of v is 1 in the rarest group that there is.
* v_i weighs the cross-entropy and ends at 1, as in the paper; the released code multiplies the student's
  logits by it, those for distillation included, and lets it grow to 2 - v_i.
* The experts have a head of all classes, of which the logits of their own are used and trained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.arguments import finite_number, is_whole
from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import GROUPS, shot_groups
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task


def group_distillation(student: Tensor, expert: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """(1/B) Σ_i KL(q || p) over the group's classes (Hinton et al. 2015; Xiang et al. 2020).

    Args:
        student: (B, C) float, logits.
        expert: (B, C) float, logits; no gradient flows into them.
        classes: (G,) int64, the group's classes.
        temperature: T, above 0.

    Returns:
        A scalar, the mean over the batch.
    """
    log_p = F.log_softmax(at_least_float32(student).index_select(1, classes) / temperature, dim=1)
    log_q = F.log_softmax(at_least_float32(expert.detach()).index_select(1, classes) / temperature, dim=1)
    return (log_q.exp() * (log_q - log_p)).sum(1).mean()


def group_weight(student: Tensor, expert: Tensor, low: float = 0.3) -> Tensor:
    """w_g: 1 below ``low`` of the expert's accuracy, then linear to 0 where the student has caught up.

    Args:
        student: (G,) accuracies, between 0 and 1.
        expert: (G,) accuracies of the experts.
        low: share of the expert's accuracy from which the weight falls.

    Returns:
        (G,) between 0 and 1; 0 for an expert that is never right.
    """
    falling = (expert - student) / ((1 - low) * expert).clamp_min(torch.finfo(expert.dtype).tiny)
    return torch.where(expert > 0, falling.clamp(0, 1), 0.0)


def instance_weights(confidence: Tensor, labels: Tensor, least: Tensor) -> Tensor:
    """v_i: the expert's confidence, scaled within each class into [least of the class, 1].

    Args:
        confidence: (N,) the expert's probability of the true class.
        labels: (N,) int64.
        least: (C,) the lower end for each class.

    Returns:
        (N,). Where all of a class are alike, one image say, all weigh 1.
    """
    shape = least.shape
    low = confidence.new_full(shape, torch.inf).scatter_reduce(0, labels, confidence, "amin")[labels]
    high = confidence.new_full(shape, -torch.inf).scatter_reduce(0, labels, confidence, "amax")[labels]
    spread = high - low
    scaled = torch.where(spread > 0, (confidence - low) / torch.where(spread > 0, spread, 1.0), 1.0)
    floor = least.to(confidence.dtype)[labels]
    return floor + (1 - floor) * scaled


def group_accuracy(predictions: Tensor, labels: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Share of right predictions among the samples of each group.

    Args:
        predictions: (n,) int64.
        labels: (n,) int64.
        groups: (C,) int64, the group of each class.
        num_groups: G.

    Returns:
        (G,) float64; 0 for a group without a sample.
    """
    of_sample = groups[labels]
    right = torch.bincount(of_sample, weights=(predictions == labels).double(), minlength=num_groups)
    return right / torch.bincount(of_sample, minlength=num_groups).clamp_min(1)


@METHODS.register_module("lfme_expert")
class LFMEExpert(Representation):
    """An expert: cross-entropy among some classes, on their images alone.

    Args:
        task: the task.
        classes: the labels it is for.

    Raises:
        LTBenchError: no class, or one that does not exist.
    """

    columns: Tensor
    place: Tensor

    def __init__(self, task: Task, classes: list[int]) -> None:
        super().__init__(task)
        if not classes or not all(isinstance(c, int) and 0 <= c < task.num_classes for c in classes):
            raise LTBenchError(
                f"lfme_expert's classes are labels from 0 to {task.num_classes - 1}, got {classes!r:.80}"
            )
        self.sampler = {"type": "of_classes", "classes": list(classes)}
        columns = torch.tensor(classes)
        place = torch.full((task.num_classes,), -1)
        place[columns] = torch.arange(len(columns))
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("place", place, persistent=False)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of logits (B, C) among the expert's classes for labels (B,) of them."""
        own = at_least_float32(logits).index_select(1, self.columns)
        return F.cross_entropy(own, self.place.index_select(0, labels))


@METHODS.register_module("lfme")
class LFME(Representation):
    """The student of three experts.

    Args:
        task: the task.
        temperature: T, above 0.
        convention: how the experts' groups are cut; of its own, as it decides the weights of stage 1.
        low: share of an expert's accuracy from which its weight falls, in [0, 1).
        expert_epochs: of each expert; None is 4/3 of the student's.

    Raises:
        LTBenchError: a number out of its range, or an unknown convention.
    """

    learns_from_validation: ClassVar[bool] = True
    group_of: Tensor
    weights: Tensor
    instance: Tensor

    def __init__(
        self,
        task: Task,
        temperature: float = 2.0,
        convention: str = "strict",
        low: float = 0.3,
        expert_epochs: int | None = None,
    ) -> None:
        super().__init__(task)
        self.sampler = {"type": "class_aware", "per_visit": 4}
        self.temperature = finite_number(temperature, "lfme's temperature")
        self.low = finite_number(low, "lfme's low")
        if not self.temperature or self.low >= 1:
            raise LTBenchError(
                f"lfme's temperature is above 0 and low below 1, got {temperature!r} and {low!r}; "
                "the paper's are 2 and 0.3"
            )
        if expert_epochs is not None and not is_whole(expert_epochs, 1):
            raise LTBenchError(f"lfme's expert_epochs is a whole number from 1, got {expert_epochs!r}")
        self.expert_epochs = expert_epochs
        groups = shot_groups(task.counts, convention).long()
        self.present = [g for g in range(len(GROUPS)) if bool((groups == g).any())]
        self.register_buffer("group_of", groups, persistent=False)
        for g in self.present:
            self.register_buffer(f"classes_{g}", (groups == g).nonzero().flatten(), persistent=False)
        self.register_buffer("weights", torch.ones(len(GROUPS)))
        self.register_buffer("instance", torch.ones(task.num_samples), persistent=False)
        self._pace = 0.0
        self._experts: dict[int, StageOneModel] = {}
        self._expert_accuracy = torch.zeros(len(GROUPS), dtype=torch.float64)

    def check(self, *, splits: Collection[str], epochs: int) -> None:
        """Group weights are set on validation."""
        if "val" not in splits:
            raise LTBenchError(
                f"lfme sets its group weights on a validation split, which {self.task.dataset} lacks; "
                "hold out one (dataset.val_per_class)"
            )

    def teachers(self, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """An expert for every group that has a class."""
        stage1 = config["stage1"]
        epochs = self.expert_epochs or round(stage1["epochs"] * 4 / 3)
        return {
            f"the expert of {GROUPS[g]}-shot classes": {
                "method.representation": {"type": "lfme_expert", "classes": self._classes(g).tolist()},
                "method.classifier": {"type": "kept"},
                "method.prediction": {"type": "unchanged"},
                "stage1.epochs": epochs,
                "stage1.batch_size": max(1, stage1["batch_size"] // 2 ** (g + 1)),
                "stage1.schedule": [{"type": "CosineAnnealingLR", "T_max": epochs, "by_epoch": True}],
                "snapshots.capture": "none",
                "snapshots.keep": 0,
            }
            for g in self.present
        }

    @torch.no_grad()
    def learn_from(
        self, teachers: Mapping[str, StageOneModel], batches: Mapping[str, Iterable[Batch]]
    ) -> None:
        """Take the experts, weigh the training images by them and measure them on validation."""
        self._experts = dict(zip(self.present, teachers.values(), strict=True))
        confidence = torch.ones_like(self.instance)
        labels = torch.zeros_like(confidence, dtype=torch.int64)
        for batch in batches["train"]:
            own = self._confidence_and_prediction(batch)[0]
            confidence.index_copy_(0, batch.indices, own.to(confidence.dtype))
            labels.index_copy_(0, batch.indices, batch.labels)
        counts = self.task.counts.to(self.group_of.device).double()
        mean = torch.stack([counts[self.group_of == g].mean() for g in self.present])
        least = torch.ones(len(GROUPS), dtype=torch.float64, device=counts.device)
        least[self.present] = mean.min() / mean
        self.instance.copy_(instance_weights(confidence, labels, least[self.group_of]))
        predictions = [(self._confidence_and_prediction(batch)[1], batch.labels) for batch in batches["val"]]
        self._expert_accuracy = self._accuracy(predictions)

    def _confidence_and_prediction(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of each image its group's expert's probability of the true class, and its prediction, (B,)."""
        confidence = torch.zeros(len(batch.labels), device=batch.labels.device)
        prediction = torch.zeros_like(batch.labels)
        group = self.group_of[batch.labels]
        for g, expert in self._experts.items():
            own = expert.head(expert.features(batch.images)).float()
            outside = torch.ones_like(own[0], dtype=torch.bool).index_fill(0, self._classes(g), False)
            probabilities = own.masked_fill(outside, -torch.inf).softmax(1)
            true = probabilities.gather(1, batch.labels.unsqueeze(1)).squeeze(1)
            confidence = torch.where(group == g, true, confidence)
            prediction = torch.where(group == g, probabilities.argmax(1), prediction)
        return confidence, prediction

    def _classes(self, group: int) -> Tensor:
        return self.get_buffer(f"classes_{group}")

    def _accuracy(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        predictions, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
        return group_accuracy(predictions, labels, self.group_of, len(GROUPS))

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """The pace of the instance weights: min(e / E_1, 1), E_1 half of the epochs."""
        self._pace = min(1.0, epoch / max(1.0, epochs / 2))

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss without experts: cross-entropy of logits (B, C) for labels (B,)."""
        return F.cross_entropy(at_least_float32(logits), labels)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """Self-paced cross-entropy and distillation from the experts, a scalar."""
        logits, labels = batch.gathered(at_least_float32(model.head(model.features(batch.images))))
        paced = self.instance.index_select(0, batch.of_all(batch.indices))
        paced = paced + (1 - paced) * self._pace
        loss = (paced * F.cross_entropy(logits, labels, reduction="none")).mean()
        for g, expert in self._experts.items():
            with torch.no_grad():
                taught = batch.of_all(expert.head(expert.features(batch.images)))
            own = group_distillation(logits, taught, self._classes(g), self.temperature)
            loss = loss + self.weights[g] * own
        return loss

    def end_epoch(self, model: StageOneModel, validation: Iterable[Batch] | None) -> None:
        """Set the group weights by the student's accuracy on validation."""
        if validation is None:
            raise RuntimeError("check() refuses a dataset without a validation split")
        pairs = [(model.head(model.features(b.images)).argmax(1), b.labels) for b in validation]
        self.weights.copy_(group_weight(self._accuracy(pairs), self._expert_accuracy, self.low))
