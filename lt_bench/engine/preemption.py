"""SIGTERM: a scheduler takes the machine back. Training saves where it is, and the process ends.

While stage 1 trains, the signal is noted and the loop stops after a step, with a checkpoint from which a
resume equals the uninterrupted run. Anywhere else the process ends at once: what it writes, it writes whole
or not at all, and what is lost is done again in seconds to minutes. A second SIGTERM ends it at once too.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from lt_bench.errors import Preempted
from lt_bench.registry import HOOKS


class _Request:
    """What this process was told; signals are the process's, and so is this."""

    def __init__(self) -> None:
        self.asked = False
        self.deferring = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM."""
        if self.deferring and not self.asked:
            self.asked = True
            return
        raise Preempted("ended by SIGTERM; give the same command with --resume to go on")


_request = _Request()


def asked() -> bool:
    """Whether the process was told to end."""
    return _request.asked


@contextmanager
def listening() -> Iterator[None]:
    """Handle SIGTERM by :class:`Preempted`; nothing outside of the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _request.receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _request.asked = _request.deferring = False


@contextmanager
def deferred() -> Iterator[None]:
    """Only note SIGTERM, for a block that looks at :func:`asked` and stops where it can go on from.

    Raises:
        Preempted: the block ended well after the signal came.
    """
    _request.deferring = True
    try:
        yield
    finally:
        _request.deferring = False
    if _request.asked:
        raise Preempted("ended by SIGTERM; stage 1 is complete, give the same command again to go on")


@HOOKS.register_module("in_progress")
class InProgress(Hook):
    """Hands the loop the part of an epoch that a checkpoint made in the middle of one holds."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Let the loop go on from there."""
        loop: Any = runner.train_loop
        loop.in_progress = checkpoint["meta"].get("in_progress")
