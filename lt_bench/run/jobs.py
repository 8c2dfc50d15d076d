"""What a call is to do: a job per config and seed, looked at before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lt_bench.config import Experiment, digest, portable_dataset
from lt_bench.data.dataset import LongTailData
from lt_bench.data.samplers import build_sampler
from lt_bench.engine.data import build_data
from lt_bench.engine.identity import data_of_stage1, stage1_identity
from lt_bench.engine.network import check_network, ends_in_one_image
from lt_bench.engine.outside_code import code_of_run
from lt_bench.engine.stage1 import StageOne, Unfinished, build_representation, untrained_head
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import RunRecord, find_record, read_record, record_key, record_path
from lt_bench.method import Classifier, Prediction
from lt_bench.models.pretrained import by_content
from lt_bench.registry import METHODS
from lt_bench.task import Task


@dataclass(frozen=True)
class Settings:
    """What a call asks for beside its configs.

    Attributes:
        work_dir: folder of stage-1 artefacts.
        records: folder of run records.
        unfinished: what becomes of unfinished or damaged stages; a finished stage 1 is kept.
        replace: fit and score again what has a record.
        launcher: MMEngine's launcher.
        profile: write what operators a few steps of a stage 1 spend their time in.
    """

    work_dir: Path
    records: Path
    unfinished: Unfinished | None = None
    replace: bool = False
    launcher: str = "none"
    profile: bool = False


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
    jobs: list[Job] = []
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
        jobs += [_job(experiment, seed, data, task, head, settings) for seed in seeds]
    _refuse_one_name_twice(jobs)
    return jobs


def _job(
    experiment: Experiment, seed: int, data: LongTailData, task: Task, head: nn.Module, settings: Settings
) -> Job:
    """One job, whose methods have said what they refuse."""
    cfg = experiment.config
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
    return Job(experiment, seed, StageOne(folder, identity, cfg, data, task, seed), classifier, prediction)


def _refuse_one_name_twice(jobs: Sequence[Job]) -> None:
    named: dict[tuple[str, int], Job] = {}
    for job in jobs:
        name, seed = job.place
        if named.setdefault(job.place, job).experiment.config != job.experiment.config:
            raise LTBenchError(f"two configs are both called {name}; rename one, or the folder that it is in")
        if named[job.place] is not job:
            raise LTBenchError(f"config {name} with seed {seed} is named twice; name it once")


def _try_sampler(data: LongTailData, sampler: Mapping[str, Any], **sizes: int) -> None:
    """Have a second stage's sampler say, before stage 1 is trained, what it refuses."""
    build_sampler(dict(sampler), data.train.labels, num_classes=data.num_classes, seed=0, **sizes)


def existing_record(job: Job, settings: Settings) -> tuple[Path, RunRecord] | None:
    """The record of a job with its path, where it was run before.

    Raises:
        LTBenchError: the record of another run lies in its place, or is damaged.
    """
    key = record_key(recorded_config(job.experiment), job.seed, job.stage.data.identity)
    found = find_record(settings.records, job.experiment.name, job.seed, key)
    path = record_path(settings.records, job.experiment.name, job.seed)
    if found is None and path.exists():
        # Said before hours of training, not after them.
        other = read_record(path)
        raise LTBenchError(
            f"{path} is the record of another run of that name (made {other.created} with another "
            "config, other data or other code of your own); give another --records folder, or --replace "
            "to write over it"
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
