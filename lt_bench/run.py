"""One call: configs and seeds in, stages run, records out.

Experiments that share a stage 1 are run together: it is trained once, classifiers that follow its
epochs are trained alongside, and every other classifier hangs on the finished artefact.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from rich.console import Console

from lt_bench.config import Experiment, portable_dataset
from lt_bench.data.dataset import LongTailData
from lt_bench.engine.clock import PeakMemory
from lt_bench.engine.data import build_data, described
from lt_bench.engine.identity import stage1_identity
from lt_bench.engine.locks import exclusive
from lt_bench.engine.stage1 import StageOne, follower_name, numerics_of, train
from lt_bench.engine.stage2 import FrozenRepresentation, fit, logits_of
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import code_version, describe_environment
from lt_bench.evaluation.record import (
    RunRecord,
    find_record,
    read_record,
    record_key,
    record_path,
    write_record,
)
from lt_bench.evaluation.report import evaluate
from lt_bench.method import Classifier, Features, FollowingClassifier, Prediction
from lt_bench.registry import METHODS
from lt_bench.task import Task


@dataclass(frozen=True)
class Settings:
    """What a call asks for beside its configs.

    Attributes:
        work_dir: folder of stage-1 artefacts.
        records: folder of run records.
        resume: go on with unfinished stages.
        force: fit and score again what has a record, and start unfinished or damaged stages over; a
            finished stage 1 is kept.
        launcher: MMEngine's launcher.
    """

    work_dir: Path
    records: Path
    resume: bool = False
    force: bool = False
    launcher: str = "none"


@dataclass
class Outcome:
    """What a call gave.

    Attributes:
        records: every experiment's record with its path, in the order asked for.
        found: paths of the records that were there already.
    """

    records: list[tuple[Path, RunRecord]] = field(default_factory=list)
    found: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    experiment: Experiment
    seed: int
    stage: StageOne


def run(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    settings: Settings,
    console: Console,
) -> Outcome:
    """Run every experiment with every seed.

    Args:
        experiments: resolved configs.
        seeds: one run each.
        settings: folders and what to do with what is there.
        console: where a person reads.

    Raises:
        LTBenchError: anything that a person can mend.
    """
    jobs = _jobs(experiments, seeds, settings)
    outcome = Outcome()
    done: dict[tuple[str, int], tuple[Path, RunRecord]] = {}
    waiting: list[_Job] = []
    for job in jobs:
        found = None if settings.force else _existing(job, settings)
        if found is None:
            waiting.append(job)
        else:
            done[job.experiment.name, job.seed] = found
            outcome.found.append(found[0])
            console.print(
                f"{job.experiment.name} seed {job.seed}: found its record {found[0]} (--force runs it again)",
                soft_wrap=True,
            )
    for identity in dict.fromkeys(job.stage.identity for job in waiting):
        group = [job for job in waiting if job.stage.identity == identity]
        done.update(_run_group(group, settings, console))
    if get_rank() == 0:
        outcome.records = [done[job.experiment.name, job.seed] for job in jobs]
    return outcome


def _jobs(experiments: Sequence[Experiment], seeds: Sequence[int], settings: Settings) -> list[_Job]:
    datasets: dict[str, LongTailData] = {}
    jobs = []
    for experiment in experiments:
        cfg = experiment.config
        key = repr(sorted(cfg["dataset"].items()))
        if key not in datasets:
            datasets[key] = build_data(cfg["dataset"])
        data = datasets[key]
        task = Task.of(data, cfg["convention"])
        for seed in seeds:
            identity = stage1_identity(cfg, data.train_identity, seed)
            folder = settings.work_dir / "stage1" / identity
            jobs.append(_Job(experiment, seed, StageOne(folder, identity, cfg, data, task, seed)))
    names = [(job.experiment.name, job.seed) for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise LTBenchError(f"config {name[0]} with seed {name[1]} is named twice; name it once")
    return jobs


def _existing(job: _Job, settings: Settings) -> tuple[Path, RunRecord] | None:
    key = record_key(recorded_config(job.experiment), job.seed, job.stage.data.identity)
    found = find_record(settings.records, job.experiment.name, job.seed, key)
    path = record_path(settings.records, job.experiment.name, job.seed)
    if found is None and path.exists():
        # Said before hours of training, not after them.
        other = read_record(path)
        raise LTBenchError(
            f"{path} is the record of another run of that name (made {other.created} with another "
            "config or other data); give another --records folder, or --force to replace it"
        )
    return found


def recorded_config(experiment: Experiment) -> dict[str, Any]:
    """The resolved config as a record holds it: without where things lie and what changes no result."""
    config = {key: value for key, value in experiment.config.items() if key != "runtime"}
    config["dataset"] = portable_dataset(experiment.config["dataset"])
    return config


def _run_group(
    group: list[_Job], settings: Settings, console: Console
) -> dict[tuple[str, int], tuple[Path, RunRecord]]:
    """Run the jobs of one stage 1."""
    stage = group[0].stage
    what = f"stage 1 of {', '.join(dict.fromkeys(job.experiment.name for job in group))}"
    with numerics_of(stage.config).on_cpu():
        if get_rank() != 0:
            return _train_and_fit(group, settings, console)
        with exclusive(stage.folder, what):
            return _train_and_fit(group, settings, console)


def _train_and_fit(
    group: list[_Job], settings: Settings, console: Console
) -> dict[tuple[str, int], tuple[Path, RunRecord]]:
    stage = group[0].stage
    classifiers = {
        job.experiment.name: METHODS.build(
            {**job.experiment.config["method"]["classifier"], "task": stage.task}
        )
        for job in group
    }
    try:
        manifest = stage.manifest()
    except LTBenchError:
        if not (settings.resume or settings.force):
            raise
        manifest = None
    if manifest is None:
        following = {
            follower_name(job.experiment.config["method"]["classifier"]): classifier
            for job in group
            if isinstance(classifier := classifiers[job.experiment.name], FollowingClassifier)
            and classifier.follows()
        }
        manifest = train(
            stage,
            following=following,
            resume=settings.resume,
            force=settings.force,
            launcher=settings.launcher,
            console=console,
        )
    else:
        console.print(f"stage 1 {stage.identity}: trained before, shared", soft_wrap=True)
    if get_rank() != 0:
        return {}
    representation = FrozenRepresentation(stage)
    results = {}
    for job in group:
        record = _finish(job, classifiers[job.experiment.name], representation, manifest)
        path = write_record(record, settings.records, replace=settings.force)
        results[job.experiment.name, job.seed] = (path, record)
        console.print(
            f"{job.experiment.name} seed {job.seed}: {record.scores.overall:.1f} -> {path}",
            soft_wrap=True,
        )
    return results


def _finish(
    job: _Job,
    classifier: Classifier,
    representation: FrozenRepresentation,
    manifest: dict[str, Any],
) -> RunRecord:
    """Fit the classifier, predict, score, and say how."""
    config = job.experiment.config
    task, data = job.stage.task, job.stage.data
    memory = PeakMemory(representation.device)
    started = time.perf_counter()
    fitted = fit(classifier, config["method"]["classifier"], representation)
    fitted_at = time.perf_counter()
    head = fitted.head.to(representation.device).eval()
    prediction: Prediction = METHODS.build({**config["method"]["prediction"], "task": task})

    def features(split: str) -> Features | None:
        if fitted.model is None:
            return representation.features(split)
        return representation.features_by(fitted.model, split)

    val = features("val")
    chosen, chosen_on = prediction.fit(None if val is None else (logits_of(head, val), val.labels))
    test = features("test")
    if test is None:
        raise LTBenchError(f"{data.name} has no test split; give it one to be scored on")
    logits = prediction(logits_of(head, test))
    scores = evaluate(logits, test.labels, task.counts.to(logits.device), task.convention)
    ended = time.perf_counter()
    splits = {fitted.selected_on, chosen_on} - {"none"}
    split = "test" if "test" in splits else next(iter(splits), None)
    return RunRecord(
        kind="measured",
        name=job.experiment.name,
        label=job.experiment.label,
        method={**config["method"], "notes": fitted.notes},
        dataset=described(data),
        backbone=backbone_name(config["model"]["backbone"]),
        protocol={
            "selection_rule": selection_rule(split, {**fitted.selected, **chosen}),
            "selection_split": split,
            "batch_norm": "eval",
            "checkpoint": "last",
        },
        seed=job.seed,
        config=recorded_config(job.experiment),
        selected={**fitted.selected, **chosen},
        stage1={
            "identity": job.stage.identity,
            "epochs": job.stage.epochs,
            "recipe": str(config["stage1"]["recipe"]["name"]),
            "recipe_epochs": int(config["stage1"]["recipe"]["epochs"]),
        },
        scores=scores,
        stage_seconds={
            "stage1": float(manifest["seconds"]),
            "classifier": fitted_at - started,
            "evaluation": ended - fitted_at,
        },
        peak_memory_bytes=max(int(manifest["peak_memory_bytes"]), memory.read()),
        code=code_version(),
        environment=describe_environment(representation.device),
    )


def selection_rule(split: str | None, selected: dict[str, Any]) -> str:
    """In words, what was chosen on which split."""
    if split is None:
        return "nothing selected; last checkpoint"
    return f"{', '.join(sorted(selected))} selected on {split}; last checkpoint"


def backbone_name(cfg: dict[str, Any]) -> str:
    """What a table calls a backbone: ``cifar_resnet-32``, ``resnet10``, ``ResNet-50``."""
    name = str(cfg["type"]).rpartition(".")[2]
    return f"{name}-{cfg['depth']}" if "depth" in cfg else name
