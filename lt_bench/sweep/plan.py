"""Configs and seeds as jobs: what shares a stage 1 is one job.

One job, and not a wave of stage 1s before a wave of classifiers: a classifier that follows stage 1 is
trained alongside it, in its process, from snapshots that nothing needs to keep. And a job is what a person
would type, one call of ``lt-bench run``, which trains a shared stage 1 once by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lt_bench.config import Experiment, changed
from lt_bench.engine.identity import data_of_stage1, stage1_identity
from lt_bench.engine.stage1 import StageOne, build_representation
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import record_key, record_path
from lt_bench.files import check_writable
from lt_bench.run.jobs import Job, Settings, jobs_of, recorded_config
from lt_bench.sweep.job import Spec


@dataclass(frozen=True)
class Asked:
    """One config of a sweep.

    Attributes:
        config: its name or path, as it was given.
        experiment: the same, resolved.
    """

    config: str
    experiment: Experiment


def plan(
    asked: Sequence[Asked], seeds: Sequence[int], options: Sequence[str], work_dir: Path, records: Path
) -> list[Spec]:
    """The jobs of a sweep: all of the first seed, then all of the second, ...

    A job's costs are known once one of its kind is done; so every kind comes early.

    Args:
        asked: configs, each once.
        seeds: seeds, each once.
        options: words of ``--cfg-options``, which the configs were resolved with.
        work_dir: folder of stage-1 artefacts.
        records: folder of run records.

    Raises:
        LTBenchError: a run cannot end well, see :func:`lt_bench.run.jobs.jobs_of`; the record of another run
            lies where one would be written.
    """
    check_writable(records)
    runs = jobs_of([one.experiment for one in asked], seeds, Settings(work_dir, records))
    given = {one.experiment.name: one.config for one in asked}
    specs = []
    for seed in seeds:
        for stages, members in _sharing([run for run in runs if run.seed == seed]):
            spec = Spec(
                configs=tuple(given[run.experiment.name] for run in members),
                names=tuple(run.experiment.name for run in members),
                keys=tuple(_key(run) for run in members),
                seed=seed,
                options=tuple(options),
                stages=tuple(sorted(stages)),
                work_dir=str(work_dir),
                records=str(records),
            )
            _refuse_other_records(spec)
            specs.append(spec)
    return specs


def stages_of(stage: StageOne) -> set[str]:
    """Identities of a stage 1 and of those that it learns from."""
    found = {stage.identity}
    for change in build_representation(stage.config, stage.task).teachers(stage.config).values():
        config = changed(stage.config, change)
        identity = stage1_identity(config, data_of_stage1(config, stage.data), stage.seed)
        found |= stages_of(dataclasses.replace(stage, identity=identity, config=config))
    return found


def _sharing(runs: Sequence[Job]) -> list[tuple[set[str], list[Job]]]:
    """Runs of one seed in groups that have no stage 1 in common, a teacher's included."""
    groups: list[tuple[set[str], list[Job]]] = []
    for run in runs:
        stages, members = stages_of(run.stage), [run]
        met = [group for group in groups if group[0] & stages]
        for other, others in reversed(met):
            stages, members = other | stages, [*others, *members]
        # The group keeps the place of its first run.
        place = groups.index(met[0]) if met else len(groups)
        groups = [group for group in groups if group not in met]
        groups.insert(place, (stages, members))
    return groups


def _key(run: Job) -> str:
    return record_key(recorded_config(run.experiment), run.seed, run.stage.data.identity)


def _refuse_other_records(spec: Spec) -> None:
    found = {record.name for record in spec.found()}
    for name in spec.names:
        path = record_path(spec.records, name, spec.seed)
        if name not in found and path.exists():
            raise LTBenchError(
                f"{path} is the record of another run of that name; give another --records folder, "
                "or delete it to have it made again"
            )
