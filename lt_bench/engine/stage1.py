"""Stage 1: build the model and the runner of a resolved config, train, leave one artefact behind.

The artefact is a folder named by the stage's identity: the last checkpoint (weights, trails, the last
snapshot, every follower's classifier), the snapshots that were kept, and ``stage1.json``, which is
written last and says that the stage is finished.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, LoggerHook
from rich.console import Console
from torch import nn

from lt_bench.data.dataset import LongTailData
from lt_bench.engine import preemption
from lt_bench.engine.checkpoints import (
    BACKEND,
    allow_logs_in_checkpoints,
    latest_checkpoint,
    preempted,
    saved_epochs,
)
from lt_bench.engine.clock import PeakMemory, StageClock
from lt_bench.engine.data import evaluation_loader, training_loader
from lt_bench.engine.loop import StageOneLoop
from lt_bench.engine.operators import operator_profiler
from lt_bench.engine.outside_code import code_of_method, code_of_transforms
from lt_bench.engine.preemption import InProgress
from lt_bench.engine.progress import ProgressHook
from lt_bench.engine.provenance import Provenance
from lt_bench.engine.runner import StageOneRunner
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import describe_environment
from lt_bench.evaluation.metric import ShotMetric
from lt_bench.files import remove_leftovers, write_atomically
from lt_bench.method import FollowingClassifier, Representation, TrailFollower
from lt_bench.models.global_batch_norm import with_global_batch_norm
from lt_bench.models.stage_one import Numerics, StageOneModel, build_backbone
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed
from lt_bench.snapshots.buffer import SnapshotBuffer
from lt_bench.snapshots.hook import SnapshotHook
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan
from lt_bench.snapshots.recorder import SnapshotRecorder
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.snapshots.trail import Trail
from lt_bench.task import Task
from lt_bench.timing import PartTimes

MANIFEST = "stage1.json"


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
            raise LTBenchError(f"{path} is damaged; delete it and run again with --resume") from error
        if self.epochs not in saved_epochs(self.folder):
            raise LTBenchError(
                f"stage 1 in {self.folder} is marked as finished, but its checkpoint "
                f"epoch_{self.epochs}.pth is missing; restore it, give --resume to train on from an "
                "earlier one, or --force to start over"
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


def default_plan(task: Task) -> BacktrackPlan:
    """The plan whose trail every stage 1 keeps: class-specific, n_B = ceil(N / C)."""
    return class_specific_plan(task.counts)


def train(
    stage: StageOne,
    *,
    following: Mapping[str, FollowingClassifier],
    plans: Collection[BacktrackPlan],
    resume: bool,
    force: bool,
    launcher: str,
    console: Console,
    code: dict[str, Any],
    teachers: Mapping[str, StageOne],
    profile: bool = False,
) -> dict[str, Any]:
    """Train stage 1 and the classifiers that follow it; the caller holds the folder's lock.

    Args:
        stage: what to train.
        following: classifiers that want every epoch, by :func:`follower_name`.
        plans: whose trails the last checkpoint shall hold, for classifiers that come after the training.
        resume: go on from the last checkpoint, where there is one.
        force: throw away what an earlier, unfinished call left, unless ``resume`` is given too.
        launcher: MMEngine's launcher.
        console: where progress goes.
        code: version of the running code.
        teachers: the finished stage 1s that the representation learns from, by its names for them.
        profile: whether a few steps are profiled, operator by operator, into the folder's ``profile``.

    Returns:
        The manifest.

    Raises:
        LTBenchError: an unfinished training is there and neither ``resume`` nor ``force`` was given;
            the loss is not finite; the folder cannot be written.
        Preempted: the process was told to end; a checkpoint says where to go on.
    """
    allow_logs_in_checkpoints()
    checkpoint = latest_checkpoint(stage.folder) if resume or not force else None
    if checkpoint is not None and not resume:
        raise LTBenchError(
            f"an unfinished stage 1 lies in {stage.folder} ({checkpoint.name}); "
            "give --resume to go on, or --force to start over"
        )
    if resume and checkpoint is None:
        console.print(
            f"stage 1 {stage.identity}: no checkpoint in {stage.folder}, training from the first epoch",
            soft_wrap=True,
            markup=False,
        )
    if get_rank() == 0:
        remove_leftovers(stage.folder)
        remove_leftovers(stage.folder / "snapshots")
        if checkpoint is None:
            _clear(stage.folder)
    barrier()
    model = build_model(stage)
    device = torch.device(get_device())
    parts = PartTimes(device)
    clock = StageClock(PeakMemory(device), parts)
    if teachers:
        model.to(device)
        batches: dict[str, Any] = {"train": evaluation_loader(stage.data, stage.config, "train", device)}
        validation = _validation_of(stage, model, device)
        if validation is not None:
            batches["val"] = validation
        models = {name: finished_model(teacher, device)[0] for name, teacher in teachers.items()}
        with clock.counting("forward"):
            representation_of(model).learn_from(models, batches)
    dim = feature_dim(stage.config["model"], model.backbone)
    followers: dict[str, TrailFollower] = {
        name: method.follower(feature_dim=dim, epochs=stage.epochs, seed=stage.seed, device=device)
        for name, method in following.items()
    }
    how = taken_how(stage.config, representation_of(model))
    progress = ProgressHook(console, f"stage 1 {stage.identity}")
    per_rank = model.numerics.batch_norm == "rank"
    if get_world_size() > 1 and not per_rank:
        with_global_batch_norm(model, device)
    provenance = Provenance(code, describe_environment(device), by_rank=per_rank)
    hooks: list[Any] = [progress, clock, provenance, InProgress()]
    if how["capture"] != "none":
        wanted = {*plans, default_plan(stage.task)}
        hooks.insert(0, _snapshot_hook(stage, how, followers, wanted, dim, device, parts))
    elif plans:
        raise LTBenchError(
            "a classifier that needs stage 1's snapshots is asked for, and snapshots.capture is 'none'; "
            "set it to 'training_forward' or 'epoch_end'"
        )
    runner = _runner(stage, model, device, hooks, checkpoint, launcher, parts)
    if profile and get_rank() == 0:
        steps = len(runner.train_dataloader)
        runner.register_hook(operator_profiler(stage.folder / "profile", device, steps))
    # A signal after the last step waits until the stage is marked as finished.
    with preemption.deferred():
        try:
            runner.train()
        finally:
            progress.close()
        seconds = clock.breakdown()
        manifest = {
            "identity": stage.identity,
            "epochs": stage.epochs,
            "recipe": stage.config["stage1"]["recipe"],
            "seconds": round(sum(seconds.values()), 3),
            "parts": {name: round(value, 6) for name, value in seconds.items()},
            "clock": parts.clock.name,
            "resumed": checkpoint is not None,
            "follower_seconds": seconds.get("followers", 0.0),
            "peak_memory_bytes": clock.memory.read(),
            "world_size": get_world_size(),
            "trained_by": provenance.calls,
            "final_loss": runner.message_hub.get_info("epoch_loss"),
            "snapshots": {**stage.config["snapshots"], **how},
        }
        if get_rank() == 0:
            write_atomically(stage.folder / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
            for left in preempted(stage.folder).values():
                left.unlink()
    return manifest


def _validation_of(stage: StageOne, model: StageOneModel, device: torch.device) -> Any:
    """Validation images for a representation that learns from them; None for others, and without any."""
    if not representation_of(model).learns_from_validation:
        return None
    return evaluation_loader(stage.data, stage.config, "val", device)


def _snapshot_hook(
    stage: StageOne,
    how: dict[str, Any],
    followers: dict[str, TrailFollower],
    plans: set[BacktrackPlan],
    dim: int,
    device: torch.device,
    parts: PartTimes,
) -> SnapshotHook:
    settings = stage.config["snapshots"]
    dtype: torch.dtype = getattr(torch, settings["dtype"])
    store = stage.store()
    recorder = SnapshotRecorder(
        {plan: Trail(plan, dim, dtype, device) for plan in plans},
        followers,
        store if settings["keep"] and get_rank() == 0 else None,
        parts,
    )

    def go_on(missing: set[str], done: int) -> None:
        # Also where this call keeps none: those of epochs that are trained anew are of another network.
        if get_rank() == 0:
            store.truncate_after(done)
        if not missing:
            return
        late = SnapshotRecorder(
            {plan: trail for plan, trail in recorder.trails.items() if plan.key in missing},
            parts=parts,
        )
        names = [name for name in missing if name in followers]
        for name in names:
            plan = followers[name].plan
            late.trails.setdefault(plan, Trail(plan, dim, dtype, device))
            late.followers[name] = followers[name]
        for epoch in range(1 if names else _first_held(stage, late.trails), done + 1):
            late.end_epoch(store.read(epoch, device))
        recorder.seconds.update(late.seconds)

    return SnapshotHook(
        SnapshotBuffer(stage.data.train.labels, stage.task.num_classes, dim, dtype, device),
        recorder,
        how,
        go_on,
        evaluation_loader(stage.data, stage.config, "train", device, distributed=True)
        if how["capture"] == "epoch_end"
        else None,
        # A follower and a store want every epoch, a trail the last ones.
        1 if followers or settings["keep"] else _first_held(stage, plans),
        parts,
    )


def _first_held(stage: StageOne, plans: Iterable[BacktrackPlan]) -> int:
    """The first epoch, from 1, that trails still hold when stage 1 ends."""
    return max(1, stage.epochs + 1 - max(plan.max_depth for plan in plans))


def representation_of(model: StageOneModel) -> Representation:
    """The representation that a model of stage 1 is trained by."""
    if not isinstance(model.objective, Representation):
        raise TypeError(f"stage 1's objective is a Representation, got {type(model.objective)}")
    return model.objective


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


def _runner(
    stage: StageOne,
    model: StageOneModel,
    device: torch.device,
    hooks: list[Any],
    checkpoint: Path | None,
    launcher: str,
    parts: PartTimes,
) -> StageOneRunner:
    config, settings = stage.config, stage.config["stage1"]
    runtime = config["runtime"]
    loader = training_loader(
        stage.data,
        config,
        dict(representation_of(model).sampler),
        batch_size=settings["batch_size"],
        epochs=stage.epochs,
        seed=stage.seed,
        device=device,
    )
    wrapper = {
        "type": "OptimWrapper",
        "optimizer": dict(settings["optimizer"]),
        "paramwise_cfg": representation_of(model).paramwise() or None,
    }
    if settings.get("clip_grad"):
        wrapper["clip_grad"] = settings["clip_grad"]
    # MLflow's back end looks for the folder here.
    runner_config = Config({**config, "work_dir": str(stage.folder)})
    if launcher != "none" and device.type == "cpu":
        runner_config.model_wrapper_cfg = {
            "type": "MMDistributedDataParallel",
            "device_ids": None,
            "broadcast_buffers": False,
        }
    val = None
    if runtime["val_interval"]:
        val = evaluation_loader(stage.data, config, "val", device, distributed=True)
    metric = {"type": ShotMetric, "counts": stage.task.counts, "convention": stage.task.convention}
    return StageOneRunner(
        parts=parts,
        val_dataloader=val,
        val_cfg={"type": "ValLoop"} if val is not None else None,
        val_evaluator=[metric] if val is not None else None,
        model=model,
        work_dir=str(stage.folder),
        train_dataloader=loader,
        train_cfg={
            "type": StageOneLoop,
            "max_epochs": stage.epochs,
            "seed": stage.seed,
            "validation": _validation_of(stage, model, device),
            "log_interval": runtime["log_interval"],
            "val_interval": runtime["val_interval"],
        },
        optim_wrapper=wrapper,
        param_scheduler=[dict(entry) for entry in settings["schedule"]] or None,
        default_hooks={
            "logger": LoggerHook(interval=runtime["log_interval"], ignore_last=False),
            "checkpoint": CheckpointHook(
                interval=runtime["checkpoint_interval"],
                save_last=True,
                max_keep_ckpts=2,
                backend_args={"backend": BACKEND},
            ),
        },
        custom_hooks=hooks,
        load_from=str(checkpoint) if checkpoint else None,
        resume=checkpoint is not None,
        launcher=launcher,
        # The runner writes into it.
        visualizer=copy.deepcopy(runtime["visualizer"]),
        randomness={"seed": derive_seed(stage.seed, "runner") % 2**31},
        # MMEngine keeps its loggers by name for the life of the process.
        experiment_name=f"stage1_{stage.identity}_{time.time_ns()}",
        cfg=runner_config,
        log_level="INFO",
    )


def _clear(folder: Path) -> None:
    for path in (*saved_epochs(folder).values(), *preempted(folder).values()):
        path.unlink()
    (folder / MANIFEST).unlink(missing_ok=True)
    if (folder / "snapshots").is_dir():
        shutil.rmtree(folder / "snapshots")
