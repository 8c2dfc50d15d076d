"""Stage 1 of the jobs that share it: trained once, after those that it learns from, by one call alone."""

from __future__ import annotations

import dataclasses
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from rich.console import Console

from lt_bench.config import changed
from lt_bench.engine.identity import data_of_stage1, stage1_identity
from lt_bench.engine.locks import exclusive
from lt_bench.engine.stage1 import (
    StageOne,
    build_representation,
    follower_name,
    numerics_of,
    taken_how,
)
from lt_bench.engine.training import train
from lt_bench.errors import LTBenchError
from lt_bench.method import FollowingClassifier
from lt_bench.run.jobs import Job, Settings


@contextmanager
def held(group: list[Job]) -> Iterator[None]:
    """The group's numerics, and its stage 1's folder for this call alone."""
    stage = group[0].stage
    what = f"stage 1 of {', '.join(dict.fromkeys(job.experiment.name for job in group))}"
    with numerics_of(stage.config).applied(), _locked(stage.folder, what):
        yield


@contextmanager
def _locked(folder: Path, what: str) -> Iterator[None]:
    """A folder for this call alone; one rank holds it for all."""
    if get_rank() != 0:
        yield
    else:
        with exclusive(folder, what) as lock:
            try:
                yield
            finally:
                # The workers of data loaders were forked with the file open and may outlive this block:
                # closing it here would leave the folder held by them.
                fcntl.flock(lock, fcntl.LOCK_UN)


def train_group(
    group: list[Job], settings: Settings, console: Console, code: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of the group's stage 1, which is trained now unless it was before."""
    needing = [job for job in group if isinstance(job.classifier, FollowingClassifier)]
    # Of one that needs snapshots, if any does: they are taken through its transforms.
    first = (needing or group)[0].stage
    stage = dataclasses.replace(
        first, config={**first.config, "snapshots": _snapshot_settings(group, needing)}
    )
    manifest = _manifest(stage, settings)
    if manifest is not None:
        if needing:
            check_snapshots_of(needing, manifest)
        console.print(f"stage 1 {stage.identity}: trained before, shared", soft_wrap=True)
        return manifest
    following: dict[str, FollowingClassifier] = {}
    plans = set()
    for job in needing:
        classifier = job.classifier
        if isinstance(classifier, FollowingClassifier):
            plans.add(classifier.plan())
            if classifier.follows():
                following[follower_name(job.experiment.config["method"]["classifier"])] = classifier
    return _train(stage, settings, console, code, following=following, plans=plans, profile=settings.profile)


def _train(
    stage: StageOne, settings: Settings, console: Console, code: dict[str, Any], **learning: Any
) -> dict[str, Any]:
    """The manifest of a stage 1 that is trained now, after those that it learns from."""
    return train(
        stage,
        teachers=_teachers(stage, settings, console, code),
        unfinished=settings.unfinished,
        launcher=settings.launcher,
        console=console,
        code=code,
        **learning,
    )


def _manifest(stage: StageOne, settings: Settings) -> dict[str, Any] | None:
    """What a finished stage says of itself; None where it is to be trained, or mended by training."""
    try:
        return stage.manifest()
    except LTBenchError:
        if settings.unfinished is None:
            raise
        return None


def _teachers(
    stage: StageOne, settings: Settings, console: Console, code: dict[str, Any]
) -> dict[str, StageOne]:
    """The stage 1s that this one learns from, trained now unless they were before."""
    changes = build_representation(stage.config, stage.task).teachers(stage.config)
    found = {}
    for name, change in changes.items():
        config = changed(stage.config, change)
        identity = stage1_identity(config, data_of_stage1(config, stage.data), stage.seed)
        folder = settings.work_dir / "stage1" / identity
        teacher = dataclasses.replace(stage, folder=folder, identity=identity, config=config)
        console.print(f"stage 1 {stage.identity} learns from {name}, stage 1 {identity}", soft_wrap=True)
        with _locked(folder, f"stage 1 of {name}"):
            if _manifest(teacher, settings) is None:
                _train(teacher, settings, console, code, following={}, plans=())
        found[name] = teacher
    return found


def _snapshot_settings(group: list[Job], needing: list[Job]) -> dict[str, Any]:
    """How the group's snapshots are taken and kept: as those who need them ask, and the most of them.

    Raises:
        LTBenchError: two classifiers on one stage 1 want them taken in different ways.
    """
    for job in needing[1:]:
        for key, other in _snapshots_asked(job).items():
            wanted = _snapshots_asked(needing[0]).get(key)
            if other != wanted:
                raise LTBenchError(
                    f"{needing[0].experiment.name} and {job.experiment.name} share a stage 1, but ask for "
                    f"snapshots.{key} {wanted!r} and {other!r}; run them in calls of their own, with "
                    "different --work-dir folders"
                )
    settings = (needing or group)[0].experiment.config["snapshots"]
    keeps = [job.experiment.config["snapshots"]["keep"] for job in group]
    return {**settings, "keep": "all" if "all" in keeps else max(keeps)}


def _snapshots_asked(job: Job) -> dict[str, Any]:
    """How a run wants its snapshots taken."""
    return taken_how(job.stage.config, build_representation(job.stage.config, job.stage.task))


def check_snapshots_of(needing: Sequence[Job], manifest: Mapping[str, Any]) -> None:
    """Refuse a finished stage 1 whose snapshots are not those that the configs ask for.

    Args:
        needing: runs that need snapshots, of one stage 1 and taken alike.
        manifest: what the finished stage says of itself.

    Raises:
        LTBenchError: they were taken in another way.
    """
    stage = needing[0].stage
    for key, value in _snapshots_asked(needing[0]).items():
        # A stage of an earlier version does not say what transforms its snapshots were taken through.
        taken = manifest["snapshots"].get(key, value)
        if taken != value:
            raise LTBenchError(
                f"stage 1 in {stage.folder} took its snapshots with {key} {taken!r}, this config asks for "
                f"{value!r}; ask for what is there, or give another --work-dir"
            )
