"""Progress for a person: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lt_bench.registry import HOOKS


@HOOKS.register_module("progress")
class ProgressHook(Hook):
    """Shows stage 1's epochs, loss, learning rate and the time that is left.

    Args:
        console: where to write.
        title: what is being trained.
        quiet_seconds: on a stream that is no terminal, the least time between two lines.
    """

    priority = "VERY_LOW"

    def __init__(self, console: Console, title: str, quiet_seconds: float = 15.0) -> None:
        self.console = console
        self.title = title
        self.quiet_seconds = quiet_seconds
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = 0.0
        self._first = 0
        self._last_line = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._started = self._last_line = time.monotonic()
        self._first = runner.epoch
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self.title, total=runner.max_epochs, completed=runner.epoch, facts=""
            )
        else:
            again = f", from epoch {runner.epoch}" if runner.epoch else ""
            self.console.print(f"{self.title}: {runner.max_epochs} epochs{again}", soft_wrap=True)

    def after_train_epoch(self, runner: Runner) -> None:
        """Show the epoch that has just ended."""
        done = runner.epoch + 1
        loss = runner.message_hub.get_info("epoch_loss")
        rate = next(iter(runner.optim_wrapper.get_lr().values()))[0]
        facts = f"loss {loss:.3f} lr {rate:.4g}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, facts=facts)
            return
        now = time.monotonic()
        if now - self._last_line < self.quiet_seconds and done < runner.max_epochs:
            return
        self._last_line = now
        left = (now - self._started) / (done - self._first) * (runner.max_epochs - done)
        self.console.print(
            f"{self.title}: epoch {done}/{runner.max_epochs} {facts}, "
            f"{int(left // 60)} min {int(left % 60)} s left",
            soft_wrap=True,
        )

    def close(self) -> None:
        """Take the bar off the terminal; also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def after_train(self, runner: Runner) -> None:
        """Take the bar off the terminal."""
        self.close()
