"""Progress for a person: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lt_bench.registry import HOOKS


class EpochProgress:
    """Epochs that are done, and the time that is left.

    Args:
        console: where to write.
        title: what is being trained.
    """

    # On a stream that is no terminal, the least time between two lines.
    quiet_seconds = 15.0

    def __init__(self, console: Console, title: str) -> None:
        self.console = console
        self.title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._total = self._first = 0
        self._started = self._last_line = 0.0

    def begin(self, total: int, done: int = 0) -> None:
        """Start the clock for ``total`` epochs, ``done`` of which were trained before."""
        self.close()
        self._total, self._first = total, done
        self._started = self._last_line = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=total, completed=done, facts="")

    def skip(self, done: int) -> None:
        """Let ``done`` epochs have ended in no time, which tells nothing of those that are left."""
        self._first, self._started = done, time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def show(self, done: int, facts: str = "", *, always: bool = False) -> None:
        """Show that ``done`` epochs have ended; ``always`` writes a line even if the last is not old."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, facts=facts)
            return
        now = time.monotonic()
        if now - self._last_line < self.quiet_seconds and not always:
            return
        self._last_line = now
        left = (now - self._started) / (done - self._first) * (self._total - done)
        told = f" {facts}" if facts else ""
        self.console.print(
            f"{self.title}: epoch {done}/{self._total}{told}, {int(left // 60)} min {int(left % 60)} s left",
            soft_wrap=True,
            markup=False,
        )

    def close(self) -> None:
        """Take the bar off the terminal; also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@HOOKS.register_module("progress")
class ProgressHook(Hook):
    """Shows stage 1's epochs, loss, learning rate and the time that is left.

    Args:
        progress: where.
    """

    priority = "VERY_LOW"

    def __init__(self, progress: EpochProgress) -> None:
        self.progress = progress

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        shown = self.progress
        if not shown.console.is_terminal:
            again = f", from epoch {runner.epoch}" if runner.epoch else ""
            shown.console.print(f"{shown.title}: {runner.max_epochs} epochs{again}", soft_wrap=True)
        shown.begin(runner.max_epochs, runner.epoch)

    def after_train_epoch(self, runner: Runner) -> None:
        """Show the epoch that has just ended."""
        done = runner.epoch + 1
        loss = runner.message_hub.get_info("epoch_loss")
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        self.progress.show(done, f"loss {loss:.3f} lr {rate:.4g}", always=done == runner.max_epochs)

    def after_train(self, runner: Runner) -> None:
        """Take the bar off the terminal."""
        self.progress.close()
