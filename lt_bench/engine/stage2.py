"""Stage 2: a trained representation, opened for classifier methods, and from logits to scores."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from lt_bench.data.batch import Batch
from lt_bench.engine.data import evaluation_loader, training_loader
from lt_bench.engine.stage1 import StageOne, build_model, feature_dim, follower_name
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
        checkpoint = stage.final_checkpoint()
        self._snapshots: dict[str, Any] | None = checkpoint.get("snapshots")
        self.model: StageOneModel = build_model(stage)
        try:
            self.model.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise LTBenchError(
                f"the checkpoint in {stage.folder} does not fit its config's model; train again with --force"
            ) from error
        # Batch statistics of a frozen backbone stay those of stage 1.
        self.model.to(self.device).eval().requires_grad_(False)
        self.feature_dim = feature_dim(self.model, stage.config)
        self.head: nn.Module = self.model.head
        self._features: dict[str, Features | None] = {}

    def features(self, split: str) -> Features | None:
        """See the base class."""
        if split not in self._features:
            self._features[split] = self.features_by(self.model, split)
        return self._features[split]

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
        return ImageFeatureEpochs(self.model, self.images(sampler, batch_size=batch_size, epochs=epochs))

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
        return LoaderEpochs(loader)

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
                "train again with --force and snapshots.keep='all', or name this config in the call "
                "that trains stage 1"
            )
        return store

    def follower_state(self, name: str) -> dict[str, Any] | None:
        """The state of a classifier that followed the training, or None."""
        return self._taken()["followers"].get(name) if self._snapshots is not None else None

    def _taken(self) -> dict[str, Any]:
        if self._snapshots is None:
            raise LTBenchError(
                f"this classifier needs snapshots, and stage 1 in {self.stage.folder} took none "
                "(snapshots.capture is 'none'); set another capture and train again with --force"
            )
        return self._snapshots


@dataclass
class LoaderEpochs:
    """Batches of augmented training images, epoch by epoch.

    Attributes:
        loader: what gives them.
    """

    loader: Any

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches of epoch ``epoch`` (from 1)."""
        self.loader.set_epoch(epoch - 1)
        yield from self.loader

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)


@dataclass
class ImageFeatureEpochs:
    """Features of augmented training images, epoch by epoch.

    Attributes:
        model: the frozen model.
        images: batches of images.
    """

    model: StageOneModel
    images: LoaderEpochs

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of epoch ``epoch`` (from 1): features (B, d) and labels (B,)."""
        for batch in self.images.epoch(epoch):
            with torch.no_grad():
                features = self.model.features(batch.images)
            yield features, batch.labels


def fit(classifier: Classifier, config: Mapping[str, Any], stage: FrozenRepresentation) -> FittedClassifier:
    """The classifier of a config on a finished stage 1.

    A classifier that followed the training is taken from its checkpoint; otherwise it is fitted now.
    """
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
