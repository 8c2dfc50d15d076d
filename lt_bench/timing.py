"""Where a stage's time goes: named parts that add up to its whole.

Parts may lie within one another; a second counts for the innermost one alone. What lies in none is
``other``: the whole less the parts.

On a CPU the host's clock is read where a part begins and ends. On a GPU the host runs ahead of the
device, and to wait for it would cost more than it tells: there a CUDA event is recorded in the device's
queue instead, and read later, once it has passed. A part is then what the *device* spent between the two
events, its waiting for the host included; so a device that starves for images counts as ``data``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

# Parts of stage 1, in the order in which they are shown, and what they mean.
STAGE1_PARTS = {
    "data": "drawing, augmenting and moving batches",
    "forward": "network and loss",
    "backward": "gradients, optimiser, a method's projection",
    "snapshots": "capture, class moments, trails",
    "followers": "classifiers trained alongside",
    "evaluation": "validation, a method's end of an epoch",
    "io": "checkpoints, stored snapshots, logs",
    "other": "the rest",
}
# Parts of stage 2, of one classifier.
STAGE2_PARTS = {
    "features": "features of whole splits; of validation and test made once, counted for each",
    "following": "training alongside stage 1",
    "data": "drawing and augmenting batches",
    "forward": "features of augmented batches",
    "shared": "features that were made for another classifier",
    "fitting": "the rest of fitting the classifier",
    "prediction": "choosing parameters of the prediction",
    "scoring": "logits and scores",
    "other": "the rest",
}

_Item = TypeVar("_Item")
# Marks that are kept at most before those that have passed are read.
_PENDING = 512


class Clock(Protocol):
    """What marks moments."""

    name: str

    def now(self) -> Any:
        """A mark."""
        ...

    def passed(self, mark: Any) -> bool:
        """Whether a mark's moment has come; does not wait."""
        ...

    def wait(self, mark: Any) -> None:
        """Wait until it has."""
        ...

    def between(self, start: Any, end: Any) -> float:
        """Seconds from one passed mark to another."""
        ...


class HostClock:
    """The process's clock."""

    name = "host"

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    def passed(self, mark: float) -> bool:
        """Always."""
        return True

    def wait(self, mark: float) -> None:
        """Nothing to wait for."""

    def between(self, start: float, end: float) -> float:
        """Seconds."""
        return end - start


class CudaClock:
    """Events in the current stream of a CUDA device; recording one waits for nothing."""

    name = "cuda events"

    def now(self) -> torch.cuda.Event:
        """An event behind all that was queued so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def passed(self, mark: torch.cuda.Event) -> bool:
        """Whether the device has come to it."""
        return bool(mark.query())

    def wait(self, mark: torch.cuda.Event) -> None:
        """Wait for the device."""
        mark.synchronize()

    def between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Seconds of the device, to about a microsecond."""
        return float(start.elapsed_time(end)) / 1000


class PartTimes:
    """Seconds of the parts of a stage.

    Args:
        device: where the work is done; it decides the clock.
        clock: another one.

    Attributes:
        clock: what the seconds are read from.
    """

    def __init__(self, device: torch.device | str = "cpu", clock: Clock | None = None) -> None:
        self.clock: Clock = clock or (CudaClock() if torch.device(device).type == "cuda" else HostClock())
        self._seconds: dict[str, float] = {}
        self._open: list[str] = []
        # A mark, and the part that lasts from there to the next one.
        self._marks: list[tuple[Any, str | None]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What the block takes is of part ``name``, but for parts within it."""
        self._switch(name)
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()
            self._switch(self._open[-1] if self._open else None)

    def each(self, name: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """``items``; what it takes to get each is of part ``name``."""
        iterator = iter(items)
        nothing = object()
        while True:
            with self.part(name):
                item = next(iterator, nothing)
            if item is nothing:
                return
            yield item  # type: ignore[misc]

    def _switch(self, name: str | None) -> None:
        self._marks.append((self.clock.now(), name))
        if len(self._marks) >= _PENDING:
            self._settle()

    def _settle(self) -> None:
        """Count what lies between marks that have passed."""
        start, name = self._marks[0]
        read = 0
        for end, following in self._marks[1:]:
            if not self.clock.passed(end):
                break
            if name is not None:
                self._seconds[name] = self._seconds.get(name, 0.0) + self.clock.between(start, end)
            start, name = end, following
            read += 1
        del self._marks[:read]

    def seconds(self) -> dict[str, float]:
        """Seconds of every part so far, parts that are still open included. Waits for the device."""
        self.wait()
        return dict(self._seconds)

    def wait(self) -> None:
        """Wait until the device has done all that was begun, and count it."""
        self._switch(self._open[-1] if self._open else None)
        self.clock.wait(self._marks[-1][0])
        self._settle()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what was measured elsewhere, by an earlier call say."""
        for name, more in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + more


def breakdown(parts: Mapping[str, float], total: float) -> dict[str, float]:
    """Parts that add up to ``total``, with the rest as ``other``.

    Args:
        parts: seconds by name; ``other`` is not among them.
        total: seconds of the whole. Where two clocks disagree and the parts are more, they are scaled to it.

    Returns:
        The parts and ``other``, all 0 or more.
    """
    measured = sum(parts.values())
    scale = min(1.0, total / measured) if measured > 0 else 1.0
    scaled = {name: value * scale for name, value in parts.items()}
    return {**scaled, "other": max(0.0, total - sum(scaled.values()))}
