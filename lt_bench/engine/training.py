"""Train a stage 1: the model and MMEngine's runner of a resolved config, one artefact left behind."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, LoggerHook
from rich.console import Console

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
from lt_bench.engine.preemption import InProgress
from lt_bench.engine.progress import EpochProgress, ProgressHook
from lt_bench.engine.provenance import Provenance
from lt_bench.engine.runner import StageOneRunner
from lt_bench.engine.stage1 import (
    MANIFEST,
    StageOne,
    Unfinished,
    build_model,
    feature_dim,
    finished_model,
    representation_of,
    taken_how,
    teachers_of,
)
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import describe_environment
from lt_bench.evaluation.metric import ShotMetric
from lt_bench.files import remove_leftovers, write_atomically
from lt_bench.method import FollowingClassifier, TrailFollower
from lt_bench.models.global_batch_norm import with_global_batch_norm
from lt_bench.models.stage_one import StageOneModel
from lt_bench.seeding import derive_seed
from lt_bench.snapshots.buffer import SnapshotBuffer
from lt_bench.snapshots.hook import SnapshotHook
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan
from lt_bench.snapshots.recorder import SnapshotRecorder
from lt_bench.snapshots.trail import Trail
from lt_bench.task import Task
from lt_bench.timing import PartTimes


def default_plan(task: Task) -> BacktrackPlan:
    """The plan whose trail every stage 1 keeps: class-specific, n_B = ceil(N / C)."""
    return class_specific_plan(task.counts)


def train(
    stage: StageOne,
    *,
    following: Mapping[str, FollowingClassifier],
    plans: Collection[BacktrackPlan],
    unfinished: Unfinished | None,
    launcher: str,
    console: Console,
    code: dict[str, Any],
    teachers: Mapping[str, StageOne],
    profile: bool = False,
) -> dict[str, Any]:
    """Train stage 1 and the classifiers that follow it; the caller holds the folder's lock.

    Args:
        stage: what to train.
        following: classifiers that want every epoch, by :func:`lt_bench.engine.stage1.follower_name`.
        plans: whose trails the last checkpoint shall hold, for classifiers that come after the training.
        unfinished: what becomes of what an earlier call left: ``"resume"`` goes on from its last checkpoint,
            ``"restart"`` throws it away.
        launcher: MMEngine's launcher.
        console: where progress goes.
        code: version of the running code.
        teachers: the finished stage 1s that the representation learns from, by its names for them.
        profile: whether a few steps are profiled, operator by operator, into the folder's ``profile``.

    Returns:
        The manifest.

    Raises:
        LTBenchError: an unfinished training is there and ``unfinished`` is None; the loss is not finite; the
            folder cannot be written.
        Preempted: the process was told to end; a checkpoint says where to go on.
    """
    allow_logs_in_checkpoints()
    checkpoint = _where_to_begin(stage, unfinished, console)
    model = build_model(stage)
    device = torch.device(get_device())
    parts = PartTimes(device)
    clock = StageClock(PeakMemory(device), parts)
    if teachers:
        _learn_from(teachers, stage, model, device, clock)
    dim = feature_dim(stage.config["model"], model.backbone)
    followers: dict[str, TrailFollower] = {
        name: method.follower(feature_dim=dim, epochs=stage.epochs, seed=stage.seed, device=device)
        for name, method in following.items()
    }
    how = taken_how(stage.config, representation_of(model))
    progress = EpochProgress(console, f"stage 1 {stage.identity}")
    per_rank = model.numerics.batch_norm == "rank"
    if get_world_size() > 1 and not per_rank:
        with_global_batch_norm(model, device)
    provenance = Provenance(code, describe_environment(device), by_rank=per_rank)
    hooks: list[Any] = [ProgressHook(progress), clock, provenance, InProgress()]
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
        manifest = {
            "identity": stage.identity,
            "epochs": stage.epochs,
            "recipe": stage.config["stage1"]["recipe"],
            **_cost(clock),
            "resumed": checkpoint is not None,
            "world_size": get_world_size(),
            "trained_by": provenance.calls,
            "teachers": teachers_of(teachers),
            "final_loss": runner.message_hub.get_info("epoch_loss"),
            "snapshots": {**stage.config["snapshots"], **how},
        }
        if get_rank() == 0:
            write_atomically(stage.folder / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
            for left in preempted(stage.folder).values():
                left.unlink()
    return manifest


def _where_to_begin(stage: StageOne, unfinished: Unfinished | None, console: Console) -> Path | None:
    """The checkpoint to go on from; None for the first epoch, with nothing left of an earlier training."""
    checkpoint = None if unfinished == "restart" else latest_checkpoint(stage.folder)
    if checkpoint is not None and unfinished is None:
        raise LTBenchError(
            f"an unfinished stage 1 lies in {stage.folder} ({checkpoint.name}); "
            "give --resume to go on, or --restart to train it from the start"
        )
    if unfinished == "resume" and checkpoint is None:
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
    return checkpoint


def _clear(folder: Path) -> None:
    for path in (*saved_epochs(folder).values(), *preempted(folder).values()):
        path.unlink()
    (folder / MANIFEST).unlink(missing_ok=True)
    if (folder / "snapshots").is_dir():
        shutil.rmtree(folder / "snapshots")


def _learn_from(
    teachers: Mapping[str, StageOne],
    stage: StageOne,
    model: StageOneModel,
    device: torch.device,
    clock: StageClock,
) -> None:
    """Have the representation learn what it needs of finished stage 1s, before it is trained."""
    model.to(device)
    batches: dict[str, Any] = {"train": evaluation_loader(stage.data, stage.config, "train", device)}
    validation = _validation_of(stage, model, device)
    if validation is not None:
        batches["val"] = validation
    models = {name: finished_model(teacher, device)[0] for name, teacher in teachers.items()}
    with clock.counting("forward"):
        representation_of(model).learn_from(models, batches)


def _cost(clock: StageClock) -> dict[str, Any]:
    """Seconds, by parts too, and memory, as a manifest holds them."""
    seconds = clock.breakdown()
    return {
        "seconds": round(sum(seconds.values()), 3),
        "parts": {name: round(value, 6) for name, value in seconds.items()},
        "clock": clock.parts.clock.name,
        "follower_seconds": seconds.get("followers", 0.0),
        "peak_memory_bytes": clock.memory.read(),
    }


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
