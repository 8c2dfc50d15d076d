"""One call of ``lt-bench sweep``: what is not done is run, what failed is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from lt_bench.engine.locks import exclusive
from lt_bench.errors import LTBenchError
from lt_bench.sweep.job import Spec, SweepJob
from lt_bench.sweep.signals import interrupting
from lt_bench.sweep.watch import Watch, failure_lines

Launch = Callable[[Sequence[SweepJob], Watch], None]


def sweep(
    specs: Sequence[Spec], folder: Path, launch: Launch, at_once: int | None, retry: bool, console: Console
) -> None:
    """Run every job that is not done, and say how it went.

    Args:
        specs: see :func:`lt_bench.sweep.plan.plan`.
        folder: the sweep's folder.
        launch: runs jobs, and tells how they end.
        at_once: how many it runs at once; None for as many as can be.
        retry: run failed ones again.
        console: where a person reads.

    Raises:
        LTBenchError: another sweep holds the folder; at the end, jobs that failed or were interrupted.
        KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, when the jobs' processes have ended.
    """
    with exclusive(folder, "the sweep", option="--folder"), _going_on_is_told(folder):
        jobs = [SweepJob(folder / "jobs" / spec.id, spec) for spec in specs]
        for job in jobs:
            job.create()
            _bring_up_to_date(job, retry)
        with Watch(jobs, at_once, console) as watch:
            console.print(f"{folder}: {watch.summary()}", soft_wrap=True)
            launch([job for job in jobs if job.state() not in ("done", "failed")], watch)
        failed = [job for job in jobs if job.state() == "failed"]
        for line in failure_lines(failed):
            console.print(line, soft_wrap=True, markup=False)
        stopped = [job for job in jobs if job.state() not in ("done", "failed")]
    if failed:
        rest = f" and {len(stopped)} were interrupted" if stopped else ""
        raise LTBenchError(
            f"{len(failed)} of {len(jobs)} jobs failed{rest}; their logs are in {folder / 'jobs'}, "
            "and --retry runs them again"
        )
    if stopped:
        raise LTBenchError(
            f"{len(stopped)} of {len(jobs)} jobs were ended from outside, or another call held their stage "
            f"1; their logs are in {folder / 'jobs'}, and the same call goes on with them"
        )


def _bring_up_to_date(job: SweepJob, retry: bool) -> None:
    """Let the marks say what is so: records may have come or gone since they were written."""
    if job.spec.recorded():
        if not job.marked("done") and not job.running():
            job.mark_done(None)
    else:
        job.forget("done")
        if retry:
            job.forget("failed")


@contextmanager
def _going_on_is_told(folder: Path) -> Iterator[None]:
    try:
        with interrupting():
            yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"the same call goes on with what is not done in {folder}") from error
