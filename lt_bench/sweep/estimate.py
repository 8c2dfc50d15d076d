"""What is left of a sweep, by what its finished jobs took."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Left:
    """A job that is not done.

    Attributes:
        kind: equal for jobs of the same cost.
        stage1_share: the share of its stage 1s that is still to be trained, by their number.
        elapsed: seconds since it was started; 0 for one that waits.
    """

    kind: Any
    stage1_share: float
    elapsed: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that are left, for what can be known.

    Attributes:
        seconds: until the jobs of known cost are done; None where no job's cost is known.
        unknown: jobs of a kind that none of the finished ones is.
        jobs: all jobs that are not done.
    """

    seconds: float | None
    unknown: int
    jobs: int

    def __str__(self) -> str:
        if self.jobs == 0:
            return "nothing left"
        if self.seconds is None:
            return "time left: unknown, no job of these kinds is measured yet"
        told = f"time left: about {duration(self.seconds)}"
        if self.unknown:
            return f"{told} and {self.unknown} of {self.jobs} jobs of a kind that is not measured yet"
        return told


def estimate(
    left: Sequence[Left], measured: Sequence[tuple[Any, dict[str, float]]], at_once: int
) -> Estimate:
    """Jobs in order, each to the place that is free first, at the mean cost of finished jobs of its kind.

    Args:
        left: jobs that are not done, running ones first.
        measured: kind and cost (``stage1`` and ``other``, seconds) of finished jobs.
        at_once: how many jobs run at once.
    """
    costs: dict[Any, list[dict[str, float]]] = {}
    for kind, cost in measured:
        costs.setdefault(kind, []).append(cost)
    places = [0.0] * at_once
    known = [job for job in left if job.kind in costs]
    for job in known:
        stage1 = statistics.fmean(cost["stage1"] for cost in costs[job.kind])
        other = statistics.fmean(cost["other"] for cost in costs[job.kind])
        seconds = max(0.0, stage1 * job.stage1_share + other - job.elapsed)
        heapq.heapreplace(places, places[0] + seconds)
    return Estimate(max(places) if known else None, len(left) - len(known), len(left))


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
