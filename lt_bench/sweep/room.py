"""Where a sweep's jobs run on this machine: a fixed number of places, or as many as fit.

What fits is measured, not guessed: the first job of a device runs alone for a while, or to its end; what it
took of the device's memory says how many have room.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

# Until a job has come to its training loop and has made its first steps.
SETTLE_SECONDS = 60.0
# A job's peak may lie after what was seen of it: evaluation, classifiers on cached features.
MARGIN = 1.5
# Reading a GPU's memory starts a process.
SAMPLE_SECONDS = 2.0
# Of a GPU's memory; a job that has taken less has not come to it yet.
BEGUN = 0.002


@dataclass(frozen=True)
class Place:
    """What a job has of the machine.

    Attributes:
        environment: variables of its process.
        device: index of the device whose memory it shares.
    """

    environment: dict[str, str]
    device: int = 0


class Places(Protocol):
    """Where jobs may start.

    Attributes:
        others: jobs that run here and were not started by way of this; so many places fewer are given.
    """

    others: int

    def take(self) -> Place | None:
        """A place for another job now, or None."""
        ...

    def give_back(self, place: Place, *, whole: bool) -> None:
        """A job that had it has ended; ``whole`` where it was done, and so took all that it takes."""
        ...


class FixedPlaces:
    """A number of jobs at once that a person chose.

    Args:
        at_once: how many jobs run at once.
        gpus: GPUs, by the names of ``CUDA_VISIBLE_DEVICES``. One each; where there are fewer, they share.
        cores: cores, which are divided among them.
    """

    def __init__(self, at_once: int, gpus: Sequence[str], cores: int) -> None:
        self.others = 0
        self._free = [
            _place(number % max(1, len(gpus)), gpus, max(1, cores // at_once)) for number in range(at_once)
        ]

    def take(self) -> Place | None:
        """The next free place."""
        return self._free.pop(0) if len(self._free) > self.others else None

    def give_back(self, place: Place, *, whole: bool) -> None:
        """It is free again."""
        self._free.append(place)


@dataclass
class _Device:
    """What was seen of a device.

    Attributes:
        empty: bytes free when no job ran.
        running: jobs.
        largest: the most bytes that a job took.
        known: whether one was seen for long enough.
        first_start: since when those that run are seen on the device, of the clock.
        sampled: when memory was read last.
    """

    empty: int | None = None
    running: int = 0
    largest: float = 0.0
    known: bool = False
    first_start: float = 0.0
    sampled: float = -math.inf


class FittingPlaces:
    """As many jobs at once as a device's memory has room for, and no more than there are cores.

    A device has one job at first. Others join when it has used it for ``SETTLE_SECONDS``, or is done, as long
    as ``MARGIN`` times the most that a job took is free when those that run have taken as much each. Memory
    that others take meanwhile counts as the jobs'.

    Args:
        jobs: how many jobs there are; cores are divided among those that can run at once.
        gpus: GPUs, by the names of ``CUDA_VISIBLE_DEVICES``; none for the processor.
        cores: cores.
        free: bytes free on a device, by its index; None where that cannot be read now, and no job joins.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        jobs: int,
        gpus: Sequence[str],
        cores: int,
        free: Callable[[int], int | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.others = 0
        self.at_most = max(1, min(jobs, max(cores, len(gpus))))
        self._gpus, self._threads = gpus, max(1, cores // self.at_most)
        self._free, self._now = free, now
        self._devices = [_Device() for _ in range(max(1, len(gpus)))]

    def take(self) -> Place | None:
        """A place on the device with the fewest jobs that has room."""
        if self.others + sum(device.running for device in self._devices) >= self.at_most:
            return None
        for index in sorted(range(len(self._devices)), key=lambda i: self._devices[i].running):
            device = self._devices[index]
            if device.running == 0:
                device.empty = self._free(index)
                device.first_start = self._now()
            elif not self._has_room(index):
                continue
            device.running += 1
            return _place(index, self._gpus, self._threads)
        return None

    def give_back(self, place: Place, *, whole: bool) -> None:
        """One job fewer shares the device."""
        device = self._devices[place.device]
        device.running -= 1
        device.known = device.known or (whole and device.largest > 0)

    def _has_room(self, index: int) -> bool:
        device, now = self._devices[index], self._now()
        if now - device.sampled < SAMPLE_SECONDS:
            return False
        device.sampled = now
        left = self._free(index)
        if left is None or device.empty is None:
            return False
        device.largest = max(device.largest, (device.empty - left) / device.running)
        if self._gpus and device.largest < BEGUN * device.empty:
            device.first_start = now
        device.known = device.known or now - device.first_start >= SETTLE_SECONDS
        left_in_time = min(left, device.empty - device.running * device.largest)
        return device.known and left_in_time >= MARGIN * device.largest


def _place(device: int, gpus: Sequence[str], threads: int) -> Place:
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[device]
        # A number means the same card here and to nvidia-smi, which reads its memory.
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return Place(environment, device)
