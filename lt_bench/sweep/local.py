"""A sweep's jobs as processes of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lt_bench.data.decoding import processors
from lt_bench.engine.locks import Held
from lt_bench.sweep.attempt import Attempt, start, stop_all
from lt_bench.sweep.job import SweepJob
from lt_bench.sweep.machine import memory_reader
from lt_bench.sweep.room import FittingPlaces, FixedPlaces, Place, Places
from lt_bench.sweep.signals import held_back
from lt_bench.sweep.watch import Watch

POLL_SECONDS = 0.2


def run_fitting(gpus: Sequence[str], device: str, jobs: Sequence[SweepJob], watch: Watch) -> None:
    """Run jobs, as many at once as fit; one a GPU, or one, where its memory cannot be read.

    Args:
        gpus: GPUs, by the names of ``CUDA_VISIBLE_DEVICES``; none for the processor.
        device: ``lt-bench run``'s ``--device``.
        jobs: what to run, in order.
        watch: who is told.
    """
    free = memory_reader(gpus)
    if free is not None:
        return run_here(FittingPlaces(len(jobs), gpus, processors(), free), device, jobs, watch)
    one = "one job a GPU" if gpus else "one job"
    watch.console.print(f"free memory cannot be read here: {one} at once; --jobs gives another number")
    return run_here(FixedPlaces(max(1, len(gpus)), gpus, processors()), device, jobs, watch)


def run_here(places: Places, device: str, jobs: Sequence[SweepJob], watch: Watch) -> None:
    """Run jobs until none is left; if this is interrupted, end their processes first.

    Args:
        places: where a job may start.
        device: ``lt-bench run``'s ``--device``.
        jobs: what to run, in order.
        watch: who is told.
    """
    waiting = list(jobs)
    running: list[tuple[Attempt, Place]] = []
    # A sweep that was killed left them: they are waited for, and fill as many places.
    left = [job for job in jobs if job.running()]
    try:
        while waiting or running:
            left = [job for job in left if job.running()]
            places.others = len(left)
            for job in [job for job in waiting if job not in left]:
                place = places.take()
                if place is None:
                    break
                try:
                    with held_back():
                        running.append((start(job, device, place.environment), place))
                except Held:
                    places.give_back(place, whole=False)
                    continue
                waiting.remove(job)
                watch.tell(job, "running")
            for attempt, own in [entry for entry in running if entry[0].process.poll() is not None]:
                running.remove((attempt, own))
                state = attempt.end()
                places.give_back(own, whole=state == "done")
                watch.tell(attempt.job, state)
            watch.refresh()
            time.sleep(POLL_SECONDS)
    except BaseException:
        # A closed terminal says so twice, by its shell and by the system.
        with held_back():
            stop_all([attempt for attempt, _ in running])
            for attempt, _ in running:
                attempt.end()
        raise
