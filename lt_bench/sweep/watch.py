"""A sweep as a person sees it: a live bar on a terminal, plain lines elsewhere, failures at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lt_bench.sweep.attempt import stage1_seconds
from lt_bench.sweep.estimate import Estimate, Left, duration, estimate
from lt_bench.sweep.job import STATES, State, SweepJob


class Watch:
    """Keeps the states of a sweep's jobs and tells what changes.

    Args:
        jobs: the jobs of this call.
        at_once: how many run at once; None for as many as can be: what is left is then told for the most that
            have run at once.
        console: where a person reads.
    """

    def __init__(self, jobs: Sequence[SweepJob], at_once: int | None, console: Console) -> None:
        self.jobs = jobs
        self.at_once = at_once
        self.console = console
        self.states: dict[str, State] = {job.spec.id: job.state() for job in jobs}
        self._began: dict[str, float] = {}
        # Of a job that runs, the share of its stage 1s that were missing when it began.
        self._missing: dict[str, float] = {}
        for job in jobs:
            if self.states[job.spec.id] == "running":
                self._begun_before(job)
        self._most = max(1, Counter(self.states.values())["running"])
        self._refreshed = -1.0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("sweep", total=len(jobs), facts="")

    def _begun_before(self, job: SweepJob) -> None:
        """Note a job that another call started, which has what is left of its stage 1s to do."""
        missing = self._missing[job.spec.id] = untrained(job)
        began = job.began()
        # Where all are trained, when the rest was begun is not known.
        if missing and began is not None:
            self._began[job.spec.id] = time.monotonic() - max(0.0, time.time() - began)

    def __enter__(self) -> Watch:
        self._bar.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, job: SweepJob, state: State) -> None:
        """Note a job's state, and say so if it is a new one."""
        before = self.states[job.spec.id]
        self.states[job.spec.id] = state
        if state == before:
            return
        if state == "running":
            self._began[job.spec.id] = time.monotonic()
            self._missing[job.spec.id] = untrained(job)
            self._most = max(self._most, Counter(self.states.values())["running"])
        began = self._began.get(job.spec.id)
        took = f" in {duration(time.monotonic() - began)}" if began and state == "done" else ""
        why = f": {job.failure()}" if state == "failed" else ""
        line = f"{job.spec.title}: {state}{took}{why}"
        if state in ("done", "failed", "interrupted"):
            line = f"{line} ({self.summary()}; {self.left()})"
        self.console.print(escape(line), soft_wrap=True)
        self._draw()

    def refresh(self) -> None:
        """Bring the bar up to date where a second has passed."""
        if self.console.is_terminal and time.monotonic() - self._refreshed >= 1:
            self._draw()

    def _draw(self) -> None:
        self._refreshed = time.monotonic()
        counts = Counter(self.states.values())
        facts = escape("; ".join([*others(counts), str(self.left())]))
        self._bar.update(self._task, completed=counts["done"], facts=facts, refresh=True)

    def summary(self) -> str:
        """How many jobs are in which state."""
        return summary(list(self.states.values()))

    def left(self) -> Estimate:
        """What is left of the jobs that run or wait; failed ones wait for ``--retry``."""
        now = time.monotonic()
        open_jobs = sorted(
            (job for job in self.jobs if self.states[job.spec.id] not in ("done", "failed")),
            key=lambda job: self.states[job.spec.id] != "running",
        )
        left = []
        for job in open_jobs:
            running = self.states[job.spec.id] == "running"
            # One that trains its stage 1 now is measured from its start, as those before it were.
            share = self._missing.get(job.spec.id, 1.0) if running else untrained(job)
            left.append(Left(job.spec.kind, share, now - self._began.get(job.spec.id, now) if running else 0))
        costs = [(job.spec.kind, job.cost()) for job in self.jobs if self.states[job.spec.id] == "done"]
        measured = [(kind, cost) for kind, cost in costs if cost is not None]
        return estimate(left, measured, self.at_once or self._most)


def untrained(job: SweepJob) -> float:
    """The share of a job's stage 1s that are not trained yet."""
    return 1 - len(stage1_seconds(job.spec)) / len(job.spec.stages)


def summary(states: Sequence[State]) -> str:
    """``3 of 6 done, 1 failed, 2 running``."""
    counts = Counter(states)
    return ", ".join([f"{counts['done']} of {len(states)} done", *others(counts)])


def others(counts: Counter[State]) -> list[str]:
    """``1 failed`` and ``2 running``: the states beside done that there are jobs in."""
    return [f"{counts[state]} {state}" for state in STATES[1:] if counts[state]]


def status_lines(jobs: Sequence[SweepJob]) -> list[str]:
    """A line a job, then the failures, then a summary."""
    states = {job.spec.id: job.state() for job in jobs}
    lines = []
    for state in STATES:
        for job in jobs:
            if states[job.spec.id] == state:
                cost = job.cost()
                took = f", {duration(sum(cost.values()))}" if cost else ""
                lines.append(f"{state:12} seed {job.spec.seed}  {', '.join(job.spec.names)}{took}")
    failed = [job for job in jobs if states[job.spec.id] == "failed"]
    return [*lines, *failure_lines(failed), summary(list(states.values()))]


def failure_lines(failed: Sequence[SweepJob]) -> list[str]:
    """Why each job failed, and where its log lies."""
    return [f"{job.spec.title} failed: {job.failure()} (log: {job.log})" for job in failed]
