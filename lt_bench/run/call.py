"""One call, from configs and seeds to records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank, get_world_size
from rich.console import Console

from lt_bench.config import Experiment
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import code_version
from lt_bench.evaluation.record import RunRecord, write_record
from lt_bench.files import check_writable
from lt_bench.run.finishing import finished_record, open_once
from lt_bench.run.jobs import Job, Settings, existing_record, jobs_of
from lt_bench.run.shared_stage1 import held, train_group


def run(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    settings: Settings,
    console: Console,
) -> list[tuple[Path, RunRecord]]:
    """Run every experiment with every seed.

    What fails does not keep the others from being run; at the end it is said.

    Args:
        experiments: resolved configs.
        seeds: one run each.
        settings: folders and what to do with what is there.
        console: where a person reads.

    Returns:
        Every run's record with its path, in the order asked for, those too that were there already. Of
        several processes the first alone makes records; the others return those that were there.

    Raises:
        LTBenchError: anything that a person can mend.
    """
    # While this call trains, the checkout may move on.
    code = code_version()
    jobs = jobs_of(experiments, seeds, settings)
    done: dict[tuple[str, int], tuple[Path, RunRecord]] = {}
    waiting: list[Job] = []
    for job in jobs:
        found = None if settings.replace else existing_record(job, settings)
        if found is None:
            waiting.append(job)
        else:
            done[job.place] = found
            console.print(
                f"{job.experiment.name} seed {job.seed}: found its record {found[0]} (--replace redoes it)",
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
    if failures:
        raise _one_error(failures, len(done))
    return [done[job.place] for job in jobs if job.place in done]


def _one_error(failures: list[LTBenchError], done: int) -> LTBenchError:
    if len(failures) == 1:
        return failures[0]
    told = "; ".join(f"({n}) {error}" for n, error in enumerate(dict.fromkeys(map(str, failures)), 1))
    return LTBenchError(f"{len(failures)} runs failed and {done} have a record: {told}")


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
                        record = finished_record(job, open_once(job, opened), manifest, code, console)
                        path = write_record(record, settings.records, replace=settings.replace)
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
