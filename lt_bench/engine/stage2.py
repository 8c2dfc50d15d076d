"""Stage 2: a trained representation, opened for classifier methods, and the logits of what they fit."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from lt_bench.data.batch import Batch
from lt_bench.data.loader import build_loader
from lt_bench.data.samplers import EpochSampler
from lt_bench.engine.data import evaluation_loader, training_loader
from lt_bench.engine.feature_cache import FeatureCache
from lt_bench.engine.progress import EpochProgress
from lt_bench.engine.stage1 import StageOne, feature_dim, finished_model, follower_name
from lt_bench.errors import LTBenchError
from lt_bench.method import (
    Classifier,
    Features,
    FittedClassifier,
    FollowingClassifier,
    ImageFeatures,
    TrainedRepresentation,
)
from lt_bench.models.stage_one import StageOneModel
from lt_bench.seeding import derive_seed
from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.snapshot import Snapshot, make_snapshot
from lt_bench.snapshots.trail import Trail
from lt_bench.timing import PartTimes


class FrozenRepresentation(TrainedRepresentation):
    """A finished stage 1, loaded from its artefact; features of a split are made once and kept.

    Args:
        stage: which.

    Raises:
        LTBenchError: the artefact is missing or damaged.
    """

    def __init__(self, stage: StageOne) -> None:
        self.stage = stage
        self.task = stage.task
        self.seed = stage.seed
        self.epochs = stage.epochs
        self.device = torch.device(get_device())
        self.model, checkpoint = finished_model(stage, self.device)
        self._snapshots: dict[str, Any] | None = checkpoint.get("snapshots")
        self._follower_seconds: dict[str, float] = checkpoint["meta"].get("follower_seconds", {})
        self.feature_dim = feature_dim(stage.config["model"], self.model.backbone)
        self.head: nn.Module = self.model.head
        self._features: dict[str, Features | None] = {}
        # Where the time goes, and what making each split's features took of it.
        self.parts = PartTimes(self.device)
        self.seconds: dict[str, float] = {}
        # The splits whose features the classifier that is being fitted has asked for.
        self.used: set[str] = set()
        self.cache = FeatureCache(self._making)
        self._progress: EpochProgress | None = None

    @contextmanager
    def shown_by(self, progress: EpochProgress) -> Iterator[None]:
        """Show the epochs of training images that a classifier goes through."""
        self._progress = progress
        try:
            yield
        finally:
            self._progress = None
            progress.close()

    def features(self, split: str) -> Features | None:
        """See the base class."""
        if split not in self._features:
            before = self.parts.seconds().get("features", 0.0)
            with self.parts.part("features"):
                self._features[split] = self.features_by(self.model, split)
            self.seconds[split] = self.parts.seconds()["features"] - before
        elif split == "train" and split not in self.used:
            # Those of validation and test are counted for each who uses them.
            self.cache.spared += self.seconds[split]
        self.used.add(split)
        return self._features[split]

    def _making(self) -> float:
        """Seconds that making features of augmented images has taken so far."""
        parts = self.parts.seconds()
        return parts.get("data", 0.0) + parts.get("forward", 0.0)

    @torch.no_grad()
    def features_by(self, model: ImageFeatures, split: str) -> Features | None:
        """Features of a split's images through another model than stage 1's, not kept."""
        loader = evaluation_loader(self.stage.data, self.stage.config, split, self.device)
        if loader is None:
            return None
        parts = [(model.features(batch.images), batch.labels) for batch in loader]
        return Features(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))

    def image_features(
        self, sampler: Mapping[str, Any], *, batch_size: int, epochs: int
    ) -> ImageFeatureEpochs:
        """See the base class."""
        images = self.images(sampler, batch_size=batch_size, epochs=epochs)
        return ImageFeatureEpochs(self.model, images, self.cache, self.parts)

    def images(self, sampler: Mapping[str, Any], *, batch_size: int, epochs: int) -> LoaderEpochs:
        """See the base class."""
        loader = training_loader(
            self.stage.data,
            self.stage.config,
            dict(sampler),
            batch_size=batch_size,
            epochs=epochs,
            seed=derive_seed(self.seed, "stage 2"),
            device=self.device,
            distributed=False,
        )
        # A single pass, such as OLTR's for class means, is not the training that a person waits for.
        shown = self._progress if epochs > 1 else None
        if shown is not None:
            shown.begin(epochs)
        return LoaderEpochs(loader, self.parts, shown)

    @torch.no_grad()
    def augmented_features(self, split: str, views: int) -> tuple[Tensor, Tensor] | None:
        """See the base class."""
        if views < 1:
            raise LTBenchError(f"augmented features are of 1 view or more, got {views}")
        part = self.stage.data.splits().get(split)
        if part is None:
            return None
        config = self.stage.config
        seed = derive_seed(self.seed, "views")
        loader = build_loader(
            part,
            sampler=InOrder(
                len(part), batch_size=config["runtime"]["eval_batch_size"], views=views, seed=seed
            ),
            transforms=config["train_transforms"],
            device=self.device,
            seed=seed,
            channels_last=bool(config["stage1"]["numerics"].get("channels_last", False)),
            workers=config["runtime"]["workers"],
        )
        # A view is an epoch: augmentation depends on (seed, epoch).
        epochs = ImageFeatureEpochs(self.model, LoaderEpochs(loader, self.parts), self.cache, self.parts)
        drawn = [torch.cat([rows for rows, _ in epochs.made(view)]) for view in range(1, views + 1)]
        return torch.stack(drawn, dim=1), part.labels.to(self.device)

    def model_copy(self) -> StageOneModel:
        """See the base class."""
        return copy.deepcopy(self.model).requires_grad_(True)

    def last_snapshot(self) -> Snapshot:
        """Z^E."""
        last = self._taken()["last"]
        return make_snapshot(last["epoch"], last["features"].to(self.device), self.task.counts)

    def final_trail(self, plan: BacktrackPlan) -> tuple[Snapshot, Trail]:
        """See the base class."""
        last = self.last_snapshot()
        trail = Trail(plan, self.feature_dim, last.features.dtype, self.device)
        saved = self._taken()["trails"].get(plan.key)
        if saved is not None:
            trail.load_state_dict(saved)
            return last, trail
        store = self._store(max(1, self.epochs - plan.max_depth + 1), self.epochs - 1)
        for epoch in range(max(1, self.epochs - plan.max_depth + 1), self.epochs):
            trail.push(store.read(epoch, self.device))
        return last, trail

    def replay(self, plan: BacktrackPlan) -> Iterator[tuple[Snapshot, Trail]]:
        """See the base class."""
        store = self._store(1, self.epochs)
        trail: Trail | None = None
        for epoch in range(1, self.epochs + 1):
            snapshot = store.read(epoch, self.device)
            if trail is None:
                trail = Trail(plan, self.feature_dim, snapshot.features.dtype, self.device)
            yield snapshot, trail
            trail.push(snapshot)

    def _store(self, first: int, last: int) -> Any:
        store = self.stage.store()
        missing = sorted(set(range(first, last + 1)) - set(store.epochs()))
        if missing:
            raise LTBenchError(
                f"this classifier needs the snapshots of epochs {first} to {last}, and stage 1 in "
                f"{self.stage.folder} lacks {len(missing)} of them (the first is {missing[0]}); "
                "delete that folder and train again with snapshots.keep='all', or with this config named in "
                "the call that trains stage 1"
            )
        return store

    def follower_seconds(self, name: str) -> float:
        """What a classifier that followed the training took of it; 0 for one that did not."""
        return float(self._follower_seconds.get(name, 0.0))

    def follower_state(self, name: str) -> dict[str, Any] | None:
        """The state of a classifier that followed the training, or None."""
        return self._taken()["followers"].get(name) if self._snapshots is not None else None

    def _taken(self) -> dict[str, Any]:
        if self._snapshots is None:
            raise LTBenchError(
                f"this classifier needs snapshots, and stage 1 in {self.stage.folder} took none "
                "(snapshots.capture was 'none'); set another capture, delete that folder and train again"
            )
        return self._snapshots


class InOrder(EpochSampler):
    """Every image of a split once an epoch, in order; a class may be without one.

    Args:
        count: n, images of the split.
        batch_size: images a batch.
        views: epochs that will be asked for.
        seed: of the augmentation.
    """

    def __init__(self, count: int, *, batch_size: int, views: int, seed: int) -> None:
        # Classes play no part in the order: one stands for all.
        labels = torch.zeros(count, dtype=torch.int64)
        super().__init__(labels, num_classes=1, batch_size=batch_size, seed=seed, epochs=views)

    def epoch_indices(self, epoch: int) -> Tensor:
        """(n,) int64, 0 to n - 1."""
        return torch.arange(self.draws)


@dataclass
class LoaderEpochs:
    """Batches of augmented training images, epoch by epoch.

    Where stage 1 trains on several views of an image (``batch_views``), a batch has the first view only.

    Attributes:
        loader: what gives them.
        parts: where the time is counted.
        progress: where epochs that have ended are shown, or None.
    """

    loader: Any
    parts: PartTimes
    progress: EpochProgress | None = None

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches of epoch ``epoch`` (from 1), images (B, C, H, W)."""
        yield from self.batches(epoch)
        if self.progress is not None:
            self.progress.show(epoch)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The same, for one who shows by himself when the epoch has ended."""
        self.loader.set_epoch(epoch - 1)
        for batch in self.parts.each("data", self.loader):
            yield batch._replace(images=batch.images[:, 0]) if batch.images.dim() == 5 else batch

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)


@dataclass
class ImageFeatureEpochs:
    """Features of augmented training images, epoch by epoch.

    Attributes:
        model: the frozen model.
        images: batches of images.
        cache: of all who go through images of this stage 1.
        parts: where the time is counted.
    """

    model: StageOneModel
    images: LoaderEpochs
    cache: FeatureCache
    parts: PartTimes

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of epoch ``epoch`` (from 1): features (B, d), not to be written to, and labels (B,)."""
        sampler = self.images.loader.sampler
        # Augmentation is drawn for (seed, epoch), image after image: the order tells the rest.
        order = sampler.epoch_indices(epoch - 1).numpy().tobytes()
        key = (epoch, sampler.batch_size, hashlib.sha256(order).hexdigest())
        held = self.cache.holds(key)
        yield from self.cache.epoch(key, lambda: self.made(epoch))
        if self.images.progress is not None:
            if held:
                self.images.progress.skip(epoch)
            else:
                self.images.progress.show(epoch)

    def made(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, through the backbone."""
        for batch in self.images.batches(epoch):
            with torch.no_grad(), self.parts.part("forward"):
                features = self.model.features(batch.images)
            yield features, batch.labels


def fit(classifier: Classifier, config: Mapping[str, Any], stage: FrozenRepresentation) -> FittedClassifier:
    """The classifier of a config on a finished stage 1.

    A classifier that followed the training is taken from its checkpoint; otherwise it is fitted now.
    """
    stage.used.clear()
    if isinstance(classifier, FollowingClassifier) and classifier.follows():
        state = stage.follower_state(follower_name(config))
        if state is not None:
            follower = classifier.follower(
                feature_dim=stage.feature_dim,
                epochs=stage.epochs,
                seed=stage.seed,
                device=stage.device,
            )
            follower.load_state_dict(state)
            return follower.result()
    return classifier.fit(stage)


@torch.no_grad()
def logits_of(head: nn.Module, features: Features, chunk: int = 65536) -> Tensor:
    """Logits (n, C) float32 of a split's features, in chunks of rows."""
    return torch.cat([head(rows).float() for rows in features.features.split(chunk)])
