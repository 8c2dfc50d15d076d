"""A sweep's jobs as processes of this machine, a bounded number at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from lt_bench.engine.locks import Held
from lt_bench.sweep.attempt import Attempt, start, stop_all
from lt_bench.sweep.job import SweepJob
from lt_bench.sweep.watch import Watch

POLL_SECONDS = 0.2


def visible_gpus() -> list[str]:
    """The GPUs that this process was lent, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(index) for index in range(count)]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def places(at_once: int, gpus: Sequence[str], cores: int) -> list[dict[str, str]]:
    """What each of the jobs that run at once has of the machine, as environment variables.

    Args:
        at_once: how many jobs run at once.
        gpus: GPUs, by the names of ``CUDA_VISIBLE_DEVICES``. One each; where there are fewer, they share.
        cores: cores, which are divided among them.
    """
    threads = str(max(1, cores // at_once))
    found = []
    for number in range(at_once):
        place = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if gpus:
            place["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        found.append(place)
    return found


def run_here(place: Sequence[dict[str, str]], device: str, jobs: Sequence[SweepJob], watch: Watch) -> None:
    """Run jobs until none is left; if this is interrupted, end their processes first.

    Args:
        place: see :func:`places`; as many jobs run at once.
        device: ``lt-bench run``'s ``--device``.
        jobs: what to run, in order.
        watch: who is told.
    """
    waiting, free = list(jobs), list(place)
    running: list[tuple[Attempt, dict[str, str]]] = []
    try:
        while waiting or running:
            for job in list(waiting):
                if not free:
                    break
                try:
                    running.append((start(job, device, free[0]), free[0]))
                except Held:
                    # A sweep that was killed left it running; it is waited for.
                    continue
                waiting.remove(job)
                free.pop(0)
                watch.tell(job, "running")
            for attempt, own in [entry for entry in running if entry[0].process.poll() is not None]:
                running.remove((attempt, own))
                free.append(own)
                watch.tell(attempt.job, attempt.end())
            watch.refresh()
            time.sleep(POLL_SECONDS)
    except BaseException:
        stop_all([attempt for attempt, _ in running])
        for attempt, _ in running:
            attempt.end()
        raise
