"""What a stage 1 is: its artefact, and the model of its config.

The artefact is a folder named by the stage's identity: the last checkpoint (weights, trails, the last
snapshot, every follower's classifier), the snapshots that were kept, and ``stage1.json``, which is
written last and says that the stage is finished.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from lt_bench.data.dataset import LongTailData
from lt_bench.engine.checkpoints import (
    allow_logs_in_checkpoints,
    latest_checkpoint,
    saved_epochs,
)
from lt_bench.engine.outside_code import code_of_method, code_of_transforms
from lt_bench.errors import LTBenchError
from lt_bench.method import Representation
from lt_bench.models.stage_one import Numerics, StageOneModel, build_backbone
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.task import Task

MANIFEST = "stage1.json"
# What a call does with a stage 1 that another left unfinished or damaged: it goes on from its last
# checkpoint, or trains it from the start; where neither is asked for, it refuses.
Unfinished = Literal["resume", "restart"]


@dataclass(frozen=True)
class StageOne:
    """One stage 1, trained or not.

    Attributes:
        folder: where its artefact lies.
        identity: see :func:`lt_bench.engine.identity.stage1_identity`.
        config: the resolved config (of any of the experiments that share it).
        data: the dataset.
        task: the task.
        seed: the run's seed.
    """

    folder: Path
    identity: str
    config: dict[str, Any]
    data: LongTailData
    task: Task
    seed: int

    @property
    def epochs(self) -> int:
        """E."""
        return int(self.config["stage1"]["epochs"])

    def manifest(self) -> dict[str, Any] | None:
        """What ``stage1.json`` says, or None while the stage is not finished.

        Raises:
            LTBenchError: the file is damaged, or its checkpoint is gone.
        """
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            manifest = json.loads(path.read_text())
            if manifest["identity"] != self.identity:
                raise KeyError("identity")
        except (ValueError, KeyError, TypeError) as error:
            raise LTBenchError(
                f"{path} is damaged; give --resume to train on from the last checkpoint, or "
                "--restart to train it from the start"
            ) from error
        if self.epochs not in saved_epochs(self.folder):
            raise LTBenchError(
                f"stage 1 in {self.folder} is marked as finished, but its checkpoint "
                f"epoch_{self.epochs}.pth is missing; restore it, give --resume to train on from an "
                "earlier one, or --restart to train it from the start"
            )
        return dict(manifest)

    def final_checkpoint(self) -> dict[str, Any]:
        """The last epoch's checkpoint, on the CPU.

        Raises:
            LTBenchError: it cannot be read.
        """
        allow_logs_in_checkpoints()
        path = latest_checkpoint(self.folder)
        if path is None:
            raise LTBenchError(f"stage 1 in {self.folder} has no checkpoint; train it again")
        return dict(torch.load(path, map_location="cpu", weights_only=True))

    def store(self) -> SnapshotStore:
        """The snapshots that are kept on disk."""
        return SnapshotStore(
            self.folder / "snapshots",
            labels=self.data.train.labels,
            num_classes=self.task.num_classes,
            identity=self.identity,
            keep=self.config["snapshots"]["keep"] or 1,
        )


def build_model(stage: StageOne) -> StageOneModel:
    """The model of stage 1 with its initial weights, a pure function of config and seed."""
    torch.manual_seed(derive_seed(stage.seed, "initial weights"))
    representation = build_representation(stage.config, stage.task)
    model_cfg = stage.config["model"]
    backbone = build_backbone(dict(model_cfg["backbone"]))
    model = StageOneModel(
        backbone,
        representation.build_head(feature_dim(model_cfg, backbone)),
        representation,
        numerics_of(stage.config),
    )
    representation.attach(model)
    return model


def feature_dim(model: Mapping[str, Any], backbone: nn.Module) -> int:
    """d, as a resolved config's ``model`` or the backbone states it.

    Raises:
        LTBenchError: neither does.
    """
    dim = model.get("feature_dim") or getattr(backbone, "feature_dim", None)
    if dim is None:
        raise LTBenchError(
            f"model.feature_dim is missing: say how many channels {model['backbone']['type']} ends in"
        )
    return int(dim)


def untrained_head(config: dict[str, Any], task: Task) -> nn.Module:
    """A head of the kind that stage 1 of a resolved config trains, to be looked at before training."""
    model = config["model"]
    dim = model.get("feature_dim") or feature_dim(model, build_backbone(dict(model["backbone"])))
    return build_representation(config, task).build_head(int(dim))


def finished_model(stage: StageOne, device: torch.device) -> tuple[StageOneModel, dict[str, Any]]:
    """The model of a finished stage 1, frozen and in eval mode, and the checkpoint it is from.

    Raises:
        LTBenchError: the artefact is missing or damaged.
    """
    checkpoint = stage.final_checkpoint()
    model = build_model(stage)
    # A second stage that trains the backbone further, like evaluation, does not hang on a compiler.
    model.numerics = dataclasses.replace(model.numerics, compile=None)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise LTBenchError(
            f"the checkpoint in {stage.folder} does not fit its config's model; delete that folder and "
            "train again"
        ) from error
    # Batch statistics of a frozen backbone stay those of stage 1.
    return model.to(device).eval().requires_grad_(False), checkpoint


def build_representation(config: dict[str, Any], task: Task) -> Representation:
    """The representation of a resolved config, with the sampler that the config names, if it names one."""
    given = dict(config["method"]["representation"])
    sampler = given.pop("sampler", None)
    representation: Representation = METHODS.build({**given, "task": task})
    if sampler is not None:
        representation.sampler = dict(sampler)
    return representation


def numerics_of(config: dict[str, Any]) -> Numerics:
    """The numerics of a resolved config."""
    return Numerics(**config["stage1"]["numerics"])


def follower_name(classifier: Mapping[str, Any]) -> str:
    """A stable name of a following classifier: its resolved config, and what of it is from outside."""
    code = code_of_method(dict(classifier))
    return json.dumps({**classifier, **({"code": code} if code else {})}, sort_keys=True)


def representation_of(model: StageOneModel) -> Representation:
    """The representation that a model of stage 1 is trained by."""
    if not isinstance(model.objective, Representation):
        raise TypeError(f"stage 1's objective is a Representation, got {type(model.objective)}")
    return model.objective


def seconds_alone(manifest: Mapping[str, Any], *, snapshots: bool) -> float:
    """Seconds that a finished stage 1 took to train, as if for one run alone.

    Args:
        manifest: what it says of itself.
        snapshots: whether that run learns from its snapshots.

    Returns:
        Its seconds without the classifiers that followed it and, unless ``snapshots``, without
        :func:`snapshot_pass`.
    """
    seconds = float(manifest["seconds"]) - float(manifest.get("follower_seconds", 0.0))
    return seconds if snapshots else seconds - snapshot_pass(manifest)


def snapshot_pass(manifest: Mapping[str, Any]) -> float:
    """Seconds of the passes that took snapshots; 0 where the training forward gave them."""
    if manifest["snapshots"]["capture"] != "epoch_end":
        return 0.0
    return float((manifest.get("parts") or {}).get("snapshots", 0.0))


def teachers_of(teachers: Mapping[str, StageOne]) -> dict[str, dict[str, Any]]:
    """The finished stage 1s that one learned from, and those that they learned from.

    Args:
        teachers: by name.

    Returns:
        By identity: ``name``, ``seconds`` of training it (:func:`seconds_alone`) and ``trained_by``, as its
        own manifest has it.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, teacher in teachers.items():
        manifest = teacher.manifest()
        if manifest is None:
            raise RuntimeError(f"stage 1 {teacher.identity} is learned from before it is finished")
        found |= manifest.get("teachers") or {}
        found[teacher.identity] = {
            "name": name,
            "seconds": round(seconds_alone(manifest, snapshots=False), 3),
            "trained_by": manifest.get("trained_by"),
        }
    return found


def capture_of(config: dict[str, Any], representation: Representation) -> str:
    """How snapshots are taken: as the config says, or at the end of an epoch where its way cannot be.

    The training forward gives a snapshot only if it shows every image once an epoch, as it is.
    """
    asked = str(config["snapshots"]["capture"])
    whole = representation.sampler["type"] == "instance" and representation.capture == asked
    return "epoch_end" if asked == "training_forward" and not whole else asked


def taken_how(config: dict[str, Any], representation: Representation) -> dict[str, Any]:
    """What two runs must have in common to share snapshots, as a manifest and a checkpoint hold it.

    Returns:
        ``capture`` (see :func:`capture_of`), ``dtype``, and ``transforms``: those that the images go through
        where they are not what stage 1 trains on, else None; ``code`` where one of these is from outside.
    """
    capture = capture_of(config, representation)
    transforms = config["test_transforms"] if capture == "epoch_end" else None
    how = {"capture": capture, "dtype": config["snapshots"]["dtype"], "transforms": transforms}
    if code := code_of_transforms(transforms):
        how["code"] = code
    return dict(json.loads(json.dumps(how)))
