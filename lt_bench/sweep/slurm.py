"""A sweep's jobs as a SLURM array, submitted through submitit.

The array belongs to SLURM: it outlives the call that submitted it, and the same call finds it again. A job
that runs into its time limit or is pre-empted is queued again and goes on from where it saved.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_bench.errors import LTBenchError
from lt_bench.sweep.attempt import Attempt, start, stop_all
from lt_bench.sweep.job import SweepJob, open_job
from lt_bench.sweep.watch import Watch

POLL_SECONDS = 5.0
TASK_POLL_SECONDS = 0.5
# What another node has written may be seen late.
SETTLE_SECONDS = 15.0
# How often a job may run into its time limit before it is not queued again.
MOST_TIMEOUTS = 20
# SLURM warns every process of a job with SIGUSR2 before it ends them. The warning is for the task, which
# hands it on as SIGTERM; a process that does not know it would die of it.
DEAF = ("sh", "-c", 'trap "" USR2; exec "$@"', "sh")
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


@dataclass(frozen=True)
class Resources:
    """What each job of the array asks SLURM for; None leaves it to the cluster.

    Attributes:
        minutes: the time limit.
        partition: the partition.
        gpus: GPUs of a job.
        cpus: cores of a job.
        mem: memory of a job, as ``sbatch --mem`` takes it.
    """

    minutes: int
    partition: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    mem: str | None = None

    def parameters(self) -> dict[str, Any]:
        """The same by submitit's names."""
        asked = {
            "time": self.minutes,
            "partition": self.partition,
            "gpus_per_node": self.gpus,
            "cpus_per_task": self.cpus,
            "mem": self.mem,
        }
        return {name: value for name, value in asked.items() if value is not None}


class Task:
    """What runs on a node: one attempt at one job.

    Args:
        folder: the job's folder.
        device: ``lt-bench run``'s ``--device``.
    """

    def __init__(self, folder: str, device: str) -> None:
        self.folder = folder
        self.device = device
        self._attempt: Attempt | None = None

    def __call__(self) -> str:
        """Run the job to its end; returns its state."""
        cores = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        environment = {"OMP_NUM_THREADS": cores, "MKL_NUM_THREADS": cores}
        self._attempt = start(open_job(Path(self.folder)), self.device, environment, DEAF)
        while self._runs(self._attempt):
            time.sleep(TASK_POLL_SECONDS)
        return self._attempt.end()

    def _runs(self, attempt: Attempt) -> bool:
        """Looks without being interrupted: :meth:`checkpoint` waits for the same process in a handler."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            return attempt.process.poll() is None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def checkpoint(self) -> Any:
        """Called by submitit on SLURM's warning: save, and be queued again."""
        from submitit.helpers import DelayedSubmission

        if self._attempt is not None:
            stop_all([self._attempt])
        return DelayedSubmission(Task(self.folder, self.device))


def check_cluster() -> None:
    """See that jobs can be submitted from here.

    Raises:
        LTBenchError: submitit or SLURM's commands are missing, or SLURM does not answer.
    """
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise LTBenchError(
            "--slurm needs submitit, which is not installed: pip install 'lt-bench[slurm]'"
        ) from error
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            raise LTBenchError(f"--slurm needs SLURM's {command}, which is not on the PATH; use a login node")
    if queue() is None:
        raise LTBenchError("SLURM does not answer squeue; try again when its controller is up")


def queue() -> dict[str, str] | None:
    """SLURM's states of this user's jobs by id (``12`` or ``12_3``); None while it does not answer."""
    words = ["squeue", "--me", "--noheader", "--array", "--format", "%i %T"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    if answer.returncode != 0:
        return None
    rows = [line.split() for line in answer.stdout.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def run_there(
    folder: Path, resources: Resources, device: str, jobs: Sequence[SweepJob], watch: Watch
) -> None:
    """Submit jobs that SLURM does not have, and wait until all have ended.

    Args:
        folder: of submitit's files.
        resources: what each asks for.
        device: ``lt-bench run``'s ``--device``.
        jobs: what to run.
        watch: who is told.

    Raises:
        LTBenchError: SLURM does not answer, or refuses the array.
    """
    there = queue()
    if there is None:
        raise LTBenchError("SLURM does not answer squeue; give the same call when its controller is up")
    new = [job for job in jobs if job.slurm_id() not in there]
    if new:
        ids = _submit(new, folder, resources, device, watch.at_once or len(new))
        for job, slurm_id in zip(new, ids, strict=True):
            job.mark_submitted(slurm_id)
        watch.console.print(f"submitted {len(new)} jobs to SLURM as {ids[0].partition('_')[0]}")
    if len(new) < len(jobs):
        watch.console.print(f"{len(jobs) - len(new)} jobs are with SLURM already")
    try:
        _follow(jobs, watch)
    except KeyboardInterrupt:
        arrays = sorted({(job.slurm_id() or "").partition("_")[0] for job in jobs} - {""})
        watch.console.print(f"SLURM keeps the jobs; scancel {' '.join(arrays)} ends them")
        raise


def _follow(jobs: Sequence[SweepJob], watch: Watch) -> None:
    """Wait until SLURM has none of the jobs any more."""
    open_jobs = list(jobs)
    gone: dict[str, float] = {}
    while open_jobs:
        there_now = queue()
        for job in list(open_jobs):
            if there_now is None:
                break
            state = there_now.get(job.slurm_id() or "")
            if state is not None:
                watch.tell(job, "waiting" if state in ("PENDING", "REQUEUED") else "running")
                continue
            marked = job.state()
            since = gone.setdefault(job.spec.id, time.monotonic())
            if marked in ("done", "failed") or time.monotonic() - since > SETTLE_SECONDS:
                open_jobs.remove(job)
                watch.tell(job, "interrupted" if marked == "waiting" else marked)
        watch.refresh()
        if open_jobs:
            time.sleep(POLL_SECONDS)


def _submit(
    jobs: Sequence[SweepJob], folder: Path, resources: Resources, device: str, at_once: int
) -> list[str]:
    """Submit one array; the ids of its tasks, in the order of ``jobs``."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder.mkdir(parents=True, exist_ok=True)
    executor = SlurmExecutor(folder.resolve(), max_num_timeout=MOST_TIMEOUTS)
    executor.update_parameters(
        job_name="lt-bench-sweep",
        array_parallelism=at_once,
        # Since 22.05 srun does not take this from its batch job.
        srun_args=[f"--cpus-per-task={resources.cpus}"] if resources.cpus else [],
        **resources.parameters(),
    )
    try:
        with executor.batch():
            tasks = [executor.submit(Task(str(job.folder.resolve()), device)) for job in jobs]
    except (FailedJobError, FailedSubmissionError) as error:
        told = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
        raise LTBenchError(f"SLURM refuses the sweep: {' '.join(told[-1].split())}") from error
    return [str(task.job_id) for task in tasks]


def minutes_of(text: str) -> int:
    """Minutes of a time limit as ``sbatch --time`` takes it: ``90``, ``12:00:00``, ``2-00:00:00``, ``1-12``.

    Raises:
        LTBenchError: it is none.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise LTBenchError(f"--time is minutes, hours:minutes:seconds or days-hours; got {text!r}")
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is not None:
        seconds = ((days * 24 + (first or 0)) * 60 + (second or 0)) * 60 + (third or 0)
    elif third is not None:
        seconds = ((first or 0) * 60 + (second or 0)) * 60 + third
    else:
        seconds = (first or 0) * 60 + (second or 0)
    if seconds < 60:
        raise LTBenchError(f"--time is a minute or more, got {text!r}")
    return -(-seconds // 60)
