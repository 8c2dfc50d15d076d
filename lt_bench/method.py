"""What a method is: one answer to one of three questions.

1. *representation*: which loss, head and sampler train stage 1 (:class:`Representation`);
2. *classifier*: how the final classifier comes from the trained representation (:class:`Classifier`);
3. *prediction*: what happens to logits at test time (:class:`Prediction`).

An experiment names one method for each question, so LDAM + cRT or Balanced Softmax + tau-norm is a
config and no code. A method is registered in :data:`lt_bench.registry.METHODS` by a decorator; the
file it is in may lie anywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.fitting import FeatureEpochs, Watch
from lt_bench.models.stage_one import StageOneModel
from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail
from lt_bench.task import Task


class Method:
    """Base of everything in METHODS; ``seam`` says which question it answers.

    Args:
        task: the task; each method's own parameters follow as keyword arguments.
    """

    seam: ClassVar[str]

    def __init__(self, task: Task) -> None:
        self.task = task

    def check(self, *, splits: Collection[str], epochs: int) -> None:
        """Refuse, before anything is trained, what the method cannot do; nothing unless overridden.

        Args:
            splits: those that the dataset has, of ``"train"``, ``"val"`` and ``"test"``.
            epochs: E of stage 1.

        Raises:
            LTBenchError: a split is missing, or there are too few epochs.
        """
        del splits, epochs


class Representation(nn.Module, Method):
    """Seam 1: how stage 1 is trained.

    Override :meth:`criterion` for a loss on logits, :meth:`build_head` for another classifier,
    ``sampler`` for another sampling, :meth:`start_epoch` for a deferred schedule, :meth:`paramwise` for
    learning rates and decays of single parameters, :meth:`after_step` for a projection, and
    :meth:`forward` for a loss that needs the features or the images. Parameters and buffers are trained
    and saved with the model.

    Attributes:
        sampler: config of the sampler that draws the training images; a config may name another one for
            any representation (``representation=dict(type=..., sampler=dict(type=...))``).
        capture: ``"training_forward"`` where stage 1's head sees the feature of every image of the batch,
            in the batch's order and of the images themselves, once a step; ``"epoch_end"`` where it sees
            mixtures, several views or pairs of batches, so that snapshots need a pass of their own.
        learns_from_validation: whether :meth:`learn_from` or :meth:`end_epoch` looks at validation images,
            which it is given only then. They, and the transforms of evaluation that :meth:`learn_from` sees
            images through, are a part of stage 1's identity only then.
    """

    seam = "representation"
    sampler: dict[str, Any] = {"type": "instance"}
    capture: ClassVar[str] = "training_forward"
    learns_from_validation: ClassVar[bool] = False

    def __init__(self, task: Task) -> None:
        nn.Module.__init__(self)
        Method.__init__(self, task)

    def build_head(self, feature_dim: int) -> nn.Module:
        """The head of stage 1, (B, d) -> (B, C); a linear layer unless overridden."""
        return nn.Linear(feature_dim, self.task.num_classes)

    def attach(self, model: StageOneModel) -> None:
        """Called once after the model is built, before it trains or loads weights; nothing unless overridden.

        For a representation that keeps a copy of the backbone. The model holds the representation, so
        only copies may be registered as submodules here, with ``requires_grad_(False)`` where the
        optimiser is not to train them. Backbones may draw their initial weights after this call.
        """
        del model

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before epoch ``epoch`` (from 1) of ``epochs``; nothing unless overridden."""
        del epoch, epochs

    def paramwise(self) -> dict[str, Any]:
        """MMEngine's ``paramwise_cfg`` for the optimiser; nothing unless overridden.

        Parameters are named as in the model: ``backbone.*``, ``head.*``, and ``objective.*`` for the
        representation's own. ``{"custom_keys": {"head.bias": {"decay_mult": 0.0}}}`` spares the head's
        bias from weight decay.
        """
        return {}

    def teachers(self, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Other stage 1s that are trained before this one; none unless overridden.

        Each is trained once and shared like any stage 1, on the same dataset and with the same seed.

        Args:
            config: the resolved config of this stage 1.

        Returns:
            A name for each, and what of ``config`` is different for it, by dotted key
            (``{"stage1.epochs": 120}``); a value replaces the whole of what was there.
        """
        del config
        return {}

    def learn_from(
        self, teachers: Mapping[str, StageOneModel], batches: Mapping[str, Iterable[Batch]]
    ) -> None:
        """Called before training, and before a resume, where :meth:`teachers` names any.

        Args:
            teachers: their finished models by name, on the device, in eval mode, without gradient. They
                are not to become submodules, or they would be trained and saved again.
            batches: images of the split ``"train"`` and, with ``learns_from_validation`` and where there is
                one, ``"val"``, in order, not augmented.
        """
        del teachers, batches

    def end_epoch(self, model: StageOneModel, validation: Iterable[Batch] | None) -> None:
        """Called after every epoch, in eval mode and without gradient; nothing unless overridden.

        Args:
            model: the model of stage 1.
            validation: images of the validation split in order, read only if iterated; None without one, and
                without ``learns_from_validation``.
        """
        del model, validation

    def after_step(self, model: StageOneModel) -> None:
        """Called after every step of the optimiser, without gradient; nothing unless overridden."""
        del model

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (B, C) for labels (B,) int64, a scalar; cross-entropy unless overridden."""
        return F.cross_entropy(logits, labels)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """The loss of a batch: a scalar tensor.

        On several ranks the batch is a rank's share. A loss that is a mean over images may be made of the
        share; one that is not, or that looks at other images of the batch, is made of
        ``batch.gathered(...)``, as here, or differs from that of one rank.
        """
        return self.criterion(*batch.gathered(model.head(model.features(batch.images))))


@dataclass(frozen=True)
class Features:
    """Features of a whole split in order: (n, d) float32 and labels (n,) int64."""

    features: Tensor
    labels: Tensor


class ImageFeatures(Protocol):
    """What maps images to features."""

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, d) float32."""
        ...


class ImageEpochs(Protocol):
    """Epochs of batches of augmented training images."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches of epoch ``epoch`` (from 1)."""
        ...

    def __len__(self) -> int:
        """Batches an epoch."""
        ...


@dataclass
class FittedClassifier:
    """What seam 2 returns.

    Attributes:
        head: features (n, d) -> logits (n, C), in eval mode.
        model: what maps images to the features that ``head`` takes, in eval mode, where the classifier
            changed the backbone; None keeps stage 1's.
        batch_norm: for the record, how the backbone's batch norm was run while the classifier was made:
            ``"eval"``, ``"train"``, or None where there was no second stage.
        selected: hyper-parameters that were chosen, by name, for the record.
        selected_on: the split they were chosen on: ``"none"``, ``"val"`` or ``"test"``.
        notes: further facts for the record, JSON-able.
    """

    head: nn.Module
    selected: dict[str, Any] = field(default_factory=dict)
    selected_on: str = "none"
    notes: dict[str, Any] = field(default_factory=dict)
    model: ImageFeatures | None = None
    batch_norm: str | None = "eval"


class TrainedRepresentation(ABC):
    """Stage 1 as a classifier method sees it: frozen, in eval mode (batch statistics do not move).

    Attributes:
        task: the task.
        feature_dim: d.
        head: the head that stage 1 trained.
        epochs: E, the epochs of stage 1.
        seed: the run's seed.
        device: where features are.
    """

    task: Task
    feature_dim: int
    head: nn.Module
    epochs: int
    seed: int
    device: torch.device

    @abstractmethod
    def features(self, split: str) -> Features | None:
        """Features of ``"train"``, ``"val"`` or ``"test"`` images without augmentation, made once.

        Returns:
            The features, or None where the dataset has no such split.
        """

    @abstractmethod
    def image_features(self, sampler: Mapping[str, Any], *, batch_size: int, epochs: int) -> FeatureEpochs:
        """Epochs of features of augmented training images, through the frozen backbone.

        Args:
            sampler: config of the sampler that draws the images.
            batch_size: images a batch.
            epochs: epochs that will be asked for; of more than one, a person is shown how many have ended.

        Returns:
            Batches of features (B, d) float32 and labels (B,) int64.
        """

    @abstractmethod
    def images(self, sampler: Mapping[str, Any], *, batch_size: int, epochs: int) -> ImageEpochs:
        """Epochs of augmented training images, for a classifier that goes through the backbone itself.

        Args:
            sampler: config of the sampler that draws the images.
            batch_size: images a batch.
            epochs: epochs that will be asked for; of more than one, a person is shown how many have ended.

        Returns:
            Batches with images (B, channels, H, W) float32.
        """

    @abstractmethod
    def augmented_features(self, split: str, views: int) -> tuple[Tensor, Tensor] | None:
        """Features of augmented views of a split's images, in order, by the training transforms.

        For methods that adapt to unlabelled test images: what is chosen so is ``selected_on`` that split.

        Args:
            split: ``"train"``, ``"val"`` or ``"test"``.
            views: V, how many views of each image; the first V are the same whatever V is.

        Returns:
            Features (n, V, d) float32 and labels (n,) int64, a pure function of the run's seed; or None where
            the dataset has no such split.
        """

    @abstractmethod
    def model_copy(self) -> StageOneModel:
        """A copy of stage 1's model that may be trained further, in eval mode, gradients on.

        Its ``features`` runs under stage 1's numerics; what comes of it goes into
        ``FittedClassifier.model``.
        """

    @abstractmethod
    def final_trail(self, plan: BacktrackPlan) -> tuple[Snapshot, Trail]:
        """The last snapshot Z^E and the trail of the snapshots before it.

        Raises:
            LTBenchError: stage 1 kept too few snapshots for ``plan``.
        """

    @abstractmethod
    def replay(self, plan: BacktrackPlan) -> Iterator[tuple[Snapshot, Trail]]:
        """Every epoch's snapshot in order, each with the trail of those before it.

        Raises:
            LTBenchError: stage 1 did not keep every snapshot.
        """


class Classifier(Method, ABC):
    """Seam 2: how the final classifier comes from the trained representation."""

    seam = "classifier"
    # What stands above the config's classifier_recipe where a paper's recipe differs for this method.
    recipe_defaults: ClassVar[dict[str, Any]] = {}
    # What ``selected_on`` will be, as far as that is known before fitting; a search refuses "test".
    select_on: str = "none"

    def check_head(self, head: nn.Module) -> None:
        """Refuse, before anything is trained, a head of stage 1 that means nothing here.

        Nothing is refused unless overridden.

        Args:
            head: as the representation builds it, (B, d) -> (B, C); its weights may be untrained.

        Raises:
            LTBenchError: it is of a kind that the classifier cannot be made from.
        """
        del head

    def drawing(self) -> dict[str, Any] | None:
        """How it draws training images in a second stage of its own: what a sampler refuses is told by it
        before stage 1 is trained.

        Returns:
            The arguments of :meth:`TrainedRepresentation.images`; None where it draws none, the default.
        """
        return None

    @abstractmethod
    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Learn or build the classifier.

        Nothing may be chosen on the test split unless ``selected_on`` says so.
        """


class TrailFollower(ABC):
    """A classifier in training that is shown stage 1's snapshots, one epoch at a time.

    It must draw from generators of its own, seeded from (seed, epoch): then training alongside
    stage 1 and replaying stored snapshots give the same classifier.
    """

    plan: BacktrackPlan

    @abstractmethod
    def observe(self, snapshot: Snapshot, trail: Trail) -> None:
        """Take in Z^e with the trail of earlier snapshots; both are only valid during the call."""

    def watch(self, see: Watch) -> None:
        """Have ``see`` called in every step of the classifier's training, from now on.

        Raises:
            LTBenchError: a classifier that has no such steps; the default.
        """
        del see
        raise LTBenchError(
            f"{type(self).__name__} shows no steps of its training; name a classifier that does, or override "
            "its watch()"
        )

    @abstractmethod
    def result(self) -> FittedClassifier:
        """The classifier after the last epoch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that decides how training goes on: tensors, numbers, strings and dicts of them."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state saved before."""


class FollowingClassifier(Classifier):
    """A classifier that learns from every epoch's snapshot, alongside stage 1 or from a replay."""

    @abstractmethod
    def plan(self) -> BacktrackPlan:
        """Which earlier snapshots it back-tracks to."""

    def follows(self) -> bool:
        """Whether it wants every epoch (else only the last, which any finished stage 1 can give)."""
        return True

    @abstractmethod
    def follower(self, *, feature_dim: int, epochs: int, seed: int, device: torch.device) -> TrailFollower:
        """A fresh follower for a stage 1 of ``epochs`` epochs."""

    def fit(self, stage: TrainedRepresentation, watch: Watch | None = None) -> FittedClassifier:
        """Follow the stored snapshots: all of them, or only the last where that is all it wants.

        Args:
            stage: the trained representation.
            watch: looks on in every step, see :meth:`TrailFollower.watch`.
        """
        follower = self.follower(
            feature_dim=stage.feature_dim,
            epochs=stage.epochs,
            seed=stage.seed,
            device=stage.device,
        )
        if watch is not None:
            follower.watch(watch)
        if self.follows():
            for snapshot, trail in stage.replay(self.plan()):
                follower.observe(snapshot, trail)
        else:
            follower.observe(*stage.final_trail(self.plan()))
        return follower.result()


class Prediction(Method, ABC):
    """Seam 3: what happens to logits at test time."""

    seam = "prediction"

    def fit(self, val: tuple[Tensor, Tensor] | None) -> tuple[dict[str, Any], str]:
        """Choose parameters from validation logits (n, C) and labels (n,), where there are any.

        Returns:
            What was chosen, and the split it was chosen on (``"none"`` where nothing was).
        """
        del val
        return {}, "none"

    @abstractmethod
    def __call__(self, logits: Tensor) -> Tensor:
        """Test-time logits (n, C) from the classifier's logits (n, C)."""
