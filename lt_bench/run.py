"""One call: configs and seeds in, stages run, records out.

Experiments that share a stage 1 are run together: it is trained once, classifiers that follow its
epochs are trained alongside, and every other classifier hangs on the finished artefact.
"""

from __future__ import annotations

import dataclasses
import fcntl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, get_world_size
from rich.console import Console
from torch import Tensor

from lt_bench.config import Experiment, changed, digest, portable_dataset
from lt_bench.data.dataset import LongTailData
from lt_bench.data.samplers import build_sampler
from lt_bench.engine.clock import PeakMemory
from lt_bench.engine.data import build_data, described
from lt_bench.engine.identity import data_of_stage1, stage1_identity
from lt_bench.engine.locks import exclusive
from lt_bench.engine.network import check_network, ends_in_one_image
from lt_bench.engine.outside_code import code_of_run
from lt_bench.engine.stage1 import (
    StageOne,
    build_representation,
    follower_name,
    numerics_of,
    taken_how,
    train,
    untrained_head,
)
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
from lt_bench.files import check_writable
from lt_bench.method import Classifier, FittedClassifier, FollowingClassifier, Prediction
from lt_bench.models.pretrained import by_content
from lt_bench.registry import METHODS
from lt_bench.task import Task
from lt_bench.timing import breakdown


@dataclass(frozen=True)
class Settings:
    """What a call asks for beside its configs.

    Attributes:
        work_dir: folder of stage-1 artefacts.
        records: folder of run records.
        resume: go on with unfinished stages.
        force: fit and score again what has a record, and start unfinished or damaged stages over unless
            ``resume`` is given too; a finished stage 1 is kept.
        launcher: MMEngine's launcher.
        profile: write what operators a few steps of a stage 1 spend their time in.
    """

    work_dir: Path
    records: Path
    resume: bool = False
    force: bool = False
    launcher: str = "none"
    profile: bool = False


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
class Job:
    """One experiment with one seed.

    Attributes:
        experiment: the resolved config.
        seed: the run's seed.
        stage: its stage 1.
        classifier: seam 2, built.
        prediction: seam 3, built.
    """

    experiment: Experiment
    seed: int
    stage: StageOne
    classifier: Classifier
    prediction: Prediction

    @property
    def place(self) -> tuple[str, int]:
        """The experiment's name and the seed."""
        return self.experiment.name, self.seed


def run(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    settings: Settings,
    console: Console,
) -> Outcome:
    """Run every experiment with every seed.

    What fails does not keep the others from being run; at the end it is said.

    Args:
        experiments: resolved configs.
        seeds: one run each.
        settings: folders and what to do with what is there.
        console: where a person reads.

    Raises:
        LTBenchError: anything that a person can mend.
    """
    # While this call trains, the checkout may move on.
    code = code_version()
    jobs = jobs_of(experiments, seeds, settings)
    outcome = Outcome()
    done: dict[tuple[str, int], tuple[Path, RunRecord]] = {}
    waiting: list[Job] = []
    for job in jobs:
        found = None if settings.force else _existing(job, settings)
        if found is None:
            waiting.append(job)
        else:
            done[job.place] = found
            outcome.found.append(found[0])
            console.print(
                f"{job.experiment.name} seed {job.seed}: found its record {found[0]} (--force runs it again)",
                soft_wrap=True,
                markup=False,
            )
    if waiting:  # on every rank: one that ended alone would be waited for
        check_writable(settings.records)
    failures: list[LTBenchError] = []
    trained: list[tuple[list[Job], dict[str, Any]]] = []
    for identity in dict.fromkeys(job.stage.identity for job in waiting):
        group = [job for job in waiting if job.stage.identity == identity]
        try:
            with held(group):
                trained.append((group, train_group(group, settings, console, code)))
        except LTBenchError as error:
            # Ranks that go on without one another would wait for ever.
            if get_world_size() > 1:
                raise
            failures.extend([error] * len(group))
        if get_world_size() == 1:
            done.update(_finish_all(trained, settings, console, code, failures))
            trained.clear()
    # The other ranks have nothing left to do, so that none of them waits while one fits and scores.
    if get_rank() == 0:
        done.update(_finish_all(trained, settings, console, code, failures))
        outcome.records = [done[job.place] for job in jobs if job.place in done]
    if failures:
        raise _one_error(failures, len(done))
    return outcome


def _one_error(failures: list[LTBenchError], done: int) -> LTBenchError:
    if len(failures) == 1:
        return failures[0]
    told = "; ".join(f"({n}) {error}" for n, error in enumerate(dict.fromkeys(map(str, failures)), 1))
    return LTBenchError(f"{len(failures)} runs failed and {done} have a record: {told}")


def jobs_of(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    settings: Settings,
    datasets: dict[str, LongTailData] | None = None,
) -> list[Job]:
    """Every run that is asked for.

    Args:
        experiments: resolved configs.
        seeds: one run each.
        settings: folders.
        datasets: those that were read by other calls; what this one reads is put in.

    Raises:
        LTBenchError: one of them cannot end well: data, a method's parameters, a record's name.
    """
    datasets = {} if datasets is None else datasets
    jobs = []
    looked_at = set()
    for experiment in experiments:
        cfg = experiment.config
        key = repr(sorted(cfg["dataset"].items()))
        if key not in datasets:
            datasets[key] = build_data(cfg["dataset"])
        data = datasets[key]
        task = Task.of(data, cfg["convention"])
        # Own files count as they are now, whatever is done to them while this call trains.
        code_of_run(cfg)
        single = ends_in_one_image(cfg, task, data)
        network = digest([cfg["model"], cfg["test_transforms"], data.identity, single])
        if network not in looked_at:
            check_network(cfg, data, single=single)
            looked_at.add(network)
        head = untrained_head(cfg, task)
        for seed in seeds:
            # One each: a method may keep what it chose.
            classifier: Classifier = METHODS.build({**cfg["method"]["classifier"], "task": task})
            prediction: Prediction = METHODS.build({**cfg["method"]["prediction"], "task": task})
            for method in (build_representation(cfg, task), classifier, prediction):
                method.check(splits=data.splits().keys(), epochs=int(cfg["stage1"]["epochs"]))
            classifier.check_head(head)
            if (drawing := classifier.drawing()) is not None:
                _try_sampler(data, **drawing)
            record_path(settings.records, experiment.name, seed)
            identity = stage1_identity(cfg, data_of_stage1(cfg, data), seed)
            folder = settings.work_dir / "stage1" / identity
            stage = StageOne(folder, identity, cfg, data, task, seed)
            jobs.append(Job(experiment, seed, stage, classifier, prediction))
    named: dict[tuple[str, int], Job] = {}
    for job in jobs:
        name, seed = job.place
        if named.setdefault(job.place, job).experiment.config != job.experiment.config:
            raise LTBenchError(f"two configs are both called {name}; rename one, or the folder that it is in")
        if named[job.place] is not job:
            raise LTBenchError(f"config {name} with seed {seed} is named twice; name it once")
    return jobs


def _try_sampler(data: LongTailData, sampler: Mapping[str, Any], **sizes: int) -> None:
    """Have a second stage's sampler say, before stage 1 is trained, what it refuses."""
    build_sampler(dict(sampler), data.train.labels, num_classes=data.num_classes, seed=0, **sizes)


def _existing(job: Job, settings: Settings) -> tuple[Path, RunRecord] | None:
    key = record_key(recorded_config(job.experiment), job.seed, job.stage.data.identity)
    found = find_record(settings.records, job.experiment.name, job.seed, key)
    path = record_path(settings.records, job.experiment.name, job.seed)
    if found is None and path.exists():
        # Said before hours of training, not after them.
        other = read_record(path)
        raise LTBenchError(
            f"{path} is the record of another run of that name (made {other.created} with another "
            "config, other data or other code of your own); give another --records folder, or --force to "
            "replace it (with --resume, where an unfinished stage 1 is to be gone on with)"
        )
    return found


def recorded_config(experiment: Experiment) -> dict[str, Any]:
    """The resolved config as a record holds it: without where things lie and what changes no result.

    Where parts of it are from outside of this project, ``code`` says what their files held.
    """
    config = {key: value for key, value in experiment.config.items() if key != "runtime"}
    config["dataset"] = portable_dataset(experiment.config["dataset"])
    config["model"] = by_content(experiment.config["model"])
    if code := code_of_run(experiment.config):
        config["code"] = code
    return config


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
        resume=settings.resume,
        force=settings.force,
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
        if not (settings.resume or settings.force):
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


def _finish_all(
    trained: list[tuple[list[Job], dict[str, Any]]],
    settings: Settings,
    console: Console,
    code: dict[str, Any],
    failures: list[LTBenchError],
) -> dict[tuple[str, int], tuple[Path, RunRecord]]:
    """Fit, score and record every job on its finished stage 1."""
    results = {}
    for group, manifest in trained:
        opened: dict[str, FrozenRepresentation] = {}
        try:
            with held(group):
                for job in group:
                    try:
                        record = _finish(job, open_once(job, opened), manifest, code)
                        path = write_record(record, settings.records, replace=settings.force)
                    except LTBenchError as error:
                        failures.append(error)
                        console.print(
                            f"{job.experiment.name} seed {job.seed}: failed: {error}",
                            soft_wrap=True,
                            markup=False,
                        )
                        continue
                    results[job.place] = (path, record)
                    console.print(
                        f"{job.experiment.name} seed {job.seed}: {record.scores.overall:.1f} -> {path}",
                        soft_wrap=True,
                        markup=False,
                    )
        except LTBenchError as error:  # another call holds the stage
            failures.extend([error] * len(group))
    return results


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


def fit_job(job: Job, representation: FrozenRepresentation) -> Fitted:
    """Fit a job's classifier on its trained representation, then its prediction."""
    started, spared = time.perf_counter(), representation.cache.spared
    with representation.parts.part("fitting"):
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


def _finish(
    job: Job, representation: FrozenRepresentation, manifest: dict[str, Any], code: dict[str, Any]
) -> RunRecord:
    """Fit the classifier, predict, score, and say how."""
    config = job.experiment.config
    task, data = job.stage.task, job.stage.data
    memory = PeakMemory(representation.device)
    # Made once for all jobs, and counted for each that uses them.
    for split in ("val", "test"):
        representation.features(split)
    parts = representation.parts
    before = parts.seconds()
    started = time.perf_counter()
    done = fit_job(job, representation)
    fitted, chosen = done.classifier, done.chosen
    with parts.part("scoring"):
        test = done.logits("test")
        if test is None:
            raise LTBenchError(f"{data.name} has no test split; give it one to be scored on")
        logits, labels = test
        scores = evaluate(logits, labels, task.counts.to(logits.device), task.convention)
    ended = time.perf_counter()
    splits = {fitted.selected_on, done.chosen_on} - {"none"}
    chosen_on = "test" if "test" in splits else next(iter(splits), None)
    following = representation.follower_seconds(follower_name(config["method"]["classifier"]))
    # A classifier with a model of its own makes its own, counted where it makes them.
    used = fitted.model is None
    features = sum(representation.seconds[split] for split in ("val", "test")) if used else 0.0
    stage2 = {name: value - before.get(name, 0.0) for name, value in parts.seconds().items()}
    stage2["features"] = stage2.get("features", 0.0) + features
    stage1_parts = dict(manifest.get("parts") or {})
    taken, passed = manifest["snapshots"], 0.0
    notes = dict(fitted.notes)
    if isinstance(job.classifier, FollowingClassifier):
        # As they were taken, which a representation or sampler may have decided otherwise than the config.
        notes["snapshots"] = {key: taken[key] for key in ("capture", "dtype")}
    elif taken["capture"] == "epoch_end":
        # The pass over all images is for those that learn from snapshots.
        passed = stage1_parts.pop("snapshots", 0.0)
    stage_seconds = {
        # Without the classifiers that followed it, each of which has its own time.
        "stage1": float(manifest["seconds"]) - float(manifest.get("follower_seconds", 0.0)) - passed,
        # As if it were the only one, like the features of the splits.
        "classifier": done.seconds + done.spared + following,
        "evaluation": ended - started - done.seconds + features,
    }
    fitting = stage_seconds["classifier"] + stage_seconds["evaluation"]
    return RunRecord(
        kind="measured",
        name=job.experiment.name,
        label=job.experiment.label,
        method={**config["method"], "notes": notes},
        dataset=described(data),
        backbone=backbone_name(config["model"]["backbone"]),
        protocol={
            "selection_rule": selection_rule(chosen_on, {**fitted.selected, **chosen}),
            "selection_split": chosen_on,
            "batch_norm": fitted.batch_norm,
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
            "world_size": manifest.get("world_size"),
            "trained_by": manifest.get("trained_by"),
        },
        scores=scores,
        stage_seconds=stage_seconds,
        stage_parts={
            "clock": parts.clock.name,
            "stage1": stage1_parts or None,
            "stage2": breakdown({**stage2, "shared": done.spared, "following": following}, fitting),
        },
        peak_memory_bytes=max(int(manifest["peak_memory_bytes"]), memory.read()),
        code=code,
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
