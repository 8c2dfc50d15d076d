"""One attempt at a job: a process of ``lt-bench run --resume``, and what its end means."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lt_bench.engine.locks import HELD, exclusive
from lt_bench.engine.stage1 import MANIFEST
from lt_bench.sweep.job import Spec, State, SweepJob

# What a process has to save its state in after SIGTERM.
GRACE_SECONDS = 60.0
# What `lt-bench run` ends with by its own fault: a traceback, a sentence.
OWN_FAULTS = (1, 2)


@dataclass
class Attempt:
    """A running attempt; the job's folder is locked for as long as its process or this one lives.

    Attributes:
        job: the job.
        process: ``lt-bench run``.
        started: when it was started, of the monotonic clock.
        from_nothing: nothing of the job's work was there before.
        log_from: where in the log the attempt's words begin, in bytes.
        held: what is let go at the end.
    """

    job: SweepJob
    process: subprocess.Popen[bytes]
    started: float
    from_nothing: bool
    log_from: int
    held: ExitStack

    def end(self) -> State:
        """Write the mark of an attempt whose process has ended.

        Returns:
            ``done``; ``failed`` where the run said why or broke; ``interrupted`` where it was stopped or
            another call held its stage 1, and goes on at the next attempt.
        """
        code = self.process.wait()
        with self.held:
            spec = self.job.spec
            if code == 0 and spec.recorded():
                wall = time.monotonic() - self.started
                self.job.mark_done(_cost(spec, wall if self.from_nothing else None))
                return "done"
            if code in OWN_FAULTS:
                sentence = _sentence(self.job.log, self.log_from, code)
                if HELD not in sentence:
                    self.job.mark_failed(sentence, code)
                    return "failed"
            return "interrupted"

    def stop(self) -> None:
        """Ask the process to save its state and end; it is not waited for."""
        if self.process.poll() is None:
            self.process.terminate()


def start(job: SweepJob, device: str, environment: Mapping[str, str], through: Sequence[str] = ()) -> Attempt:
    """Start a job's process.

    Args:
        job: what to run.
        device: ``lt-bench run``'s ``--device``.
        environment: variables beside this process's own.
        through: a command that the process is started by, its last words the process's.

    Raises:
        Held: another process holds the job's folder.
    """
    spec = job.spec
    with ExitStack() as stack:
        lock = stack.enter_context(exclusive(job.folder, f"the job {spec.title}", option="--folder"))
        from_nothing = not spec.found() and not any(stage.exists() for stage in spec.folders())
        log = stack.enter_context(open(job.log, "ab"))
        process = subprocess.Popen(
            [*through, *command(spec, device)],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # The lock lives on with the job if this process is killed: nobody starts it a second time.
            pass_fds=(lock.fileno(),),
            # Ctrl-C on a terminal is for this process, which ends its jobs itself.
            start_new_session=True,
        )
        return Attempt(job, process, time.monotonic(), from_nothing, log.tell(), stack.pop_all())


def command(spec: Spec, device: str) -> Sequence[str]:
    """The words of a job's process."""
    options = ("--cfg-options", *spec.options) if spec.options else ()
    return [
        *(sys.executable, "-m", "lt_bench.cli", "run", *spec.configs, "--seeds", str(spec.seed)),
        *("--work-dir", spec.work_dir, "--records", spec.records, "--device", device, "--resume"),
        *options,
    ]


def stop_all(attempts: Sequence[Attempt], grace: float = GRACE_SECONDS) -> None:
    """End processes: SIGTERM, and SIGKILL for those that have not ended ``grace`` seconds later."""
    for attempt in attempts:
        attempt.stop()
    latest = time.monotonic() + grace
    for attempt in attempts:
        try:
            attempt.process.wait(max(0.0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            attempt.process.kill()
            attempt.process.wait()


def stage1_seconds(spec: Spec) -> dict[str, float]:
    """Seconds of those of the job's stage 1s that are trained, by identity; earlier calls included."""
    seconds = {}
    for stage in spec.folders():
        try:
            seconds[stage.name] = float(json.loads((stage / MANIFEST).read_text())["seconds"])
        except (FileNotFoundError, ValueError, KeyError):
            # Not finished; or damaged, which the run itself will say.
            continue
    return seconds


def _cost(spec: Spec, wall: float | None) -> dict[str, float] | None:
    """Seconds of a finished job's stage 1s and of all else.

    Args:
        spec: the job.
        wall: the attempt's seconds where it did the whole work. Where it did not, the rest is what the
            records' parts say: fitting and scoring, without starting and reading data.
    """
    trained = stage1_seconds(spec)
    if set(trained) != set(spec.stages):
        return None
    stage1 = sum(trained.values())
    if wall is not None:
        return {"stage1": stage1, "other": max(0.0, wall - stage1)}
    parts = [record.stage_parts["stage2"] for record in spec.found() if record.stage_parts is not None]
    if len(parts) < len(spec.names):
        return None
    # What followed is in stage 1's seconds, what was shared was not spent, and features are made once.
    apart = ("following", "shared", "features")
    own = sum(seconds for part in parts for name, seconds in part.items() if name not in apart)
    return {"stage1": stage1, "other": own + max(part["features"] for part in parts)}


def _sentence(log: Path, begin: int, code: int) -> str:
    """Why an attempt failed: its last sentence, or its last line."""
    with open(log, "rb") as handle:
        handle.seek(begin)
        lines = [line.strip() for line in handle.read().decode(errors="replace").splitlines() if line.strip()]
    told = [line.removeprefix("lt-bench: ") for line in lines if line.startswith("lt-bench: ")]
    return told[-1] if told else f"exit code {code}: {lines[-1] if lines else 'nothing was printed'}"
