"""A job on its finished stage 1: its classifier fitted, its prediction scored, its record made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from torch import Tensor

from lt_bench.config import digest
from lt_bench.engine.clock import PeakMemory
from lt_bench.engine.data import described
from lt_bench.engine.progress import EpochProgress
from lt_bench.engine.stage1 import follower_name, seconds_alone, snapshot_pass
from lt_bench.engine.stage2 import FrozenRepresentation, fit, logits_of
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import describe_environment
from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.report import evaluate
from lt_bench.method import FittedClassifier, FollowingClassifier
from lt_bench.run.jobs import Job, recorded_config
from lt_bench.timing import breakdown


def open_once(job: Job, opened: dict[str, FrozenRepresentation]) -> FrozenRepresentation:
    """A job's finished stage 1, opened once for all jobs that are validated and tested on the same images.

    Args:
        job: one of a group that shares a stage 1; they may differ in validation and test images.
        opened: those of the group so far; this one is put in.
    """
    key = digest([job.stage.data.identity, job.stage.config["test_transforms"]])
    if key not in opened:
        opened[key] = FrozenRepresentation(job.stage)
    return opened[key]


@dataclass(frozen=True)
class Fitted:
    """A classifier and a prediction, fitted, with the parameters that were chosen for both.

    Attributes:
        classifier: what seam 2 gave.
        chosen: parameters that seam 3 chose, by name.
        chosen_on: the split it chose on, or ``"none"``.
        logits: test-time logits (n, C) and labels (n,) of a split; None where the dataset lacks it.
        seconds: what fitting seam 2 took.
        spared: what making the features took that were there from another job's fit.
    """

    classifier: FittedClassifier
    chosen: dict[str, Any]
    chosen_on: str
    logits: Callable[[str], tuple[Tensor, Tensor] | None]
    seconds: float
    spared: float


def fit_job(job: Job, representation: FrozenRepresentation, console: Console) -> Fitted:
    """Fit a job's classifier on its trained representation, then its prediction."""
    progress = EpochProgress(console, f"{job.experiment.name} seed {job.seed}: classifier")
    started, spared = time.perf_counter(), representation.cache.spared
    with representation.parts.part("fitting"), representation.shown_by(progress):
        fitted = fit(job.classifier, job.experiment.config["method"]["classifier"], representation)
    representation.parts.wait()
    seconds, spared = time.perf_counter() - started, representation.cache.spared - spared
    head = fitted.head.to(representation.device).eval()

    def raw(split: str) -> tuple[Tensor, Tensor] | None:
        if fitted.model is None:
            found = representation.features(split)
        else:
            found = representation.features_by(fitted.model, split)
        return None if found is None else (logits_of(head, found), found.labels)

    def final(split: str) -> tuple[Tensor, Tensor] | None:
        found = raw(split)
        return None if found is None else (job.prediction(found[0]), found[1])

    with representation.parts.part("prediction"):
        chosen, chosen_on = job.prediction.fit(raw("val"))
    return Fitted(fitted, chosen, chosen_on, final, seconds, spared)


def finished_record(
    job: Job,
    representation: FrozenRepresentation,
    manifest: Mapping[str, Any],
    code: Mapping[str, Any],
    console: Console,
) -> RunRecord:
    """Fit the classifier, predict, score, and say how.

    Args:
        job: a run.
        representation: its finished stage 1.
        manifest: what that says of itself.
        code: version of the running code.
        console: where progress goes.

    Raises:
        LTBenchError: a dataset without a test split; what the classifier refuses.
    """
    config, task = job.experiment.config, job.stage.task
    memory = PeakMemory(representation.device)
    # Made once for all jobs, and counted for each that uses them.
    for split in ("val", "test"):
        representation.features(split)
    parts = representation.parts
    before = parts.seconds()
    started = time.perf_counter()
    done = fit_job(job, representation, console)
    with parts.part("scoring"):
        test = done.logits("test")
        if test is None:
            raise LTBenchError(f"{job.stage.data.name} has no test split; give it one to be scored on")
        logits, labels = test
        scores = evaluate(logits, labels, task.counts.to(logits.device), task.convention)
    took = time.perf_counter() - started
    stage2 = {name: value - before.get(name, 0.0) for name, value in parts.seconds().items()}
    stage_seconds, stage_parts = _times(job, representation, done, manifest, took, stage2)
    selected = {**done.classifier.selected, **done.chosen}
    splits = {done.classifier.selected_on, done.chosen_on} - {"none"}
    chosen_on = "test" if "test" in splits else next(iter(splits), None)
    return RunRecord(
        kind="measured",
        name=job.experiment.name,
        label=job.experiment.label,
        method={**config["method"], "notes": _notes(job, done.classifier, manifest)},
        dataset=described(job.stage.data),
        backbone=backbone_name(config["model"]["backbone"]),
        protocol={
            "selection_rule": selection_rule(chosen_on, selected),
            "selection_split": chosen_on,
            "batch_norm": done.classifier.batch_norm,
            "checkpoint": "last",
        },
        seed=job.seed,
        config=recorded_config(job.experiment),
        selected=selected,
        stage1={
            "identity": job.stage.identity,
            "epochs": job.stage.epochs,
            "recipe": str(config["stage1"]["recipe"]["name"]),
            "recipe_epochs": int(config["stage1"]["recipe"]["epochs"]),
            "world_size": manifest.get("world_size"),
            "trained_by": manifest.get("trained_by"),
            "teachers": manifest.get("teachers"),
        },
        scores=scores,
        stage_seconds=stage_seconds,
        stage_parts=stage_parts,
        peak_memory_bytes=max(int(manifest["peak_memory_bytes"]), memory.read()),
        code=dict(code),
        environment=describe_environment(representation.device),
    )


def _notes(job: Job, fitted: FittedClassifier, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the method notes, and how the snapshots that it learned from were taken."""
    if not isinstance(job.classifier, FollowingClassifier):
        return dict(fitted.notes)
    # As they were taken, which a representation or sampler may have decided otherwise than the config.
    taken = {key: manifest["snapshots"][key] for key in ("capture", "dtype")}
    return {**fitted.notes, "snapshots": taken}


def _times(
    job: Job,
    representation: FrozenRepresentation,
    done: Fitted,
    manifest: Mapping[str, Any],
    took: float,
    stage2: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of the stages, as if the job were the only one on its stage 1, and of their parts.

    Args:
        job: the run.
        representation: its stage 1.
        done: what was fitted.
        manifest: what stage 1 says of itself.
        took: seconds of fitting, predicting and scoring.
        stage2: the same by their parts.

    Returns:
        ``stage_seconds`` and ``stage_parts`` of its record.
    """
    stage1 = dict(manifest.get("parts") or {})
    snapshots = isinstance(job.classifier, FollowingClassifier)
    if not snapshots and snapshot_pass(manifest):
        del stage1["snapshots"]
    following = representation.follower_seconds(follower_name(job.experiment.config["method"]["classifier"]))
    # A classifier with a model of its own makes its own features, counted where it makes them.
    used = done.classifier.model is None
    features = sum(representation.seconds[split] for split in ("val", "test")) if used else 0.0
    seconds = {
        # The classifiers that followed it have each their own time.
        "stage1": seconds_alone(manifest, snapshots=snapshots),
        "classifier": done.seconds + done.spared + following,
        "evaluation": took - done.seconds + features,
    }
    own = {**stage2, "features": stage2.get("features", 0.0) + features}
    fitting = seconds["classifier"] + seconds["evaluation"]
    parts = {
        "clock": representation.parts.clock.name,
        "stage1": stage1 or None,
        "stage2": breakdown({**own, "shared": done.spared, "following": following}, fitting),
    }
    return seconds, parts


def selection_rule(split: str | None, selected: dict[str, Any]) -> str:
    """In words, what was chosen on which split."""
    if split is None:
        return "nothing selected; last checkpoint"
    return f"{', '.join(sorted(selected))} selected on {split}; last checkpoint"


def backbone_name(cfg: dict[str, Any]) -> str:
    """What a table calls a backbone: ``cifar_resnet-32``, ``resnet10``, ``ResNet-50``."""
    name = str(cfg["type"]).rpartition(".")[2]
    return f"{name}-{cfg['depth']}" if "depth" in cfg else name
