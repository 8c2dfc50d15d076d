"""Signals that end a sweep: like Ctrl-C, but never between a job's start and its being known."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def interrupting() -> Iterator[None]:
    """SIGTERM and a closed terminal's SIGHUP interrupt like Ctrl-C; one that is ignored (``nohup``) stays so.

    Nothing outside of the main thread, which alone gets signals.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled({number: interrupt for number in (signal.SIGTERM, signal.SIGHUP)}):
        yield


@contextmanager
def held_back() -> Iterator[None]:
    """What interrupts comes after the block: a process that it starts is then known to who ends it."""
    came: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # Those that the system handles stay its own: a process that is started inherits what is ignored.
    own = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    try:
        with _handled(dict.fromkeys(own, note)):
            yield
    finally:
        for number, frame in came:
            own[signal.Signals(number)](number, frame)


@contextmanager
def _handled(handlers: dict[signal.Signals, Handler]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Handler | int | None] = {}
    try:
        for number, handler in handlers.items():
            before[number] = signal.getsignal(number)
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
