"""SnapshotHook: features of the training forward, by sample index, into preallocated storage.

No extra forward, no synchronisation in a step, nothing per class in Python. With
``capture="epoch_end"`` it makes the pass of eq. (2) of the Breadcrumb paper instead: every training
image, not augmented, in eval mode, once at the end of the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from lt_bench.errors import LTBenchError
from lt_bench.registry import HOOKS
from lt_bench.snapshots.buffer import SnapshotBuffer
from lt_bench.snapshots.recorder import SnapshotRecorder
from lt_bench.timing import PartTimes

CAPTURES = ("training_forward", "epoch_end", "none")


@HOOKS.register_module("snapshot")
class SnapshotHook(Hook):
    """Fills a buffer during an epoch and hands the snapshot on at its end.

    Args:
        buffer: (N, d) storage.
        recorder: what is done with a snapshot.
        how: they are taken, of plain Python values; where a checkpoint took them otherwise, a resume is
            refused. ``capture``, ``training_forward`` or ``epoch_end``, is what the hook itself goes by.
        go_on: called on resume with the names of followers and trails that the checkpoint does not know and
            the last epoch done.
        epoch_end_batches: batches with ``images`` and ``indices`` of every training image, not
            augmented; needed for ``epoch_end``.
        first_epoch: the first epoch, from 1, whose snapshot is wanted: before it there is no pass of its own.
        parts: where the time is counted.

    Raises:
        LTBenchError: another capture.
    """

    priority = "NORMAL"

    def __init__(
        self,
        buffer: SnapshotBuffer,
        recorder: SnapshotRecorder,
        how: Mapping[str, Any],
        go_on: Callable[[set[str], int], None],
        epoch_end_batches: Iterable[Any] | None = None,
        first_epoch: int = 1,
        parts: PartTimes | None = None,
    ) -> None:
        capture = how["capture"]
        if capture not in ("training_forward", "epoch_end"):
            raise LTBenchError(f"the hook captures at 'training_forward' or 'epoch_end', not {capture!r}")
        self.buffer = buffer
        self.recorder = recorder
        self.capture = capture
        self.settings = dict(how)
        self.epoch_end_batches = epoch_end_batches
        self.first_epoch = first_epoch
        self.go_on = go_on
        self.parts = parts or PartTimes()
        self._indices: Tensor | None = None
        self._in_flight: dict[str, Tensor] | None = None

    def before_train(self, runner: Runner) -> None:
        """Listen to the head: its input is the batch's features, whatever the loss does with them."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.capture == "training_forward":
            model.head.register_forward_pre_hook(self._capture)

    def _capture(self, head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self._indices is not None:
            with self.parts.part("snapshots"):
                self.buffer.capture(self._indices, inputs[0])

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note which samples the coming forward is of."""
        self._indices = data_batch.indices

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Later forwards, of a validation say, are not captured."""
        self._indices = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Close the epoch's snapshot."""
        epoch = runner.epoch + 1
        # A trail that has begun takes successive epochs: one that went on from a checkpoint, say.
        if self.capture == "epoch_end" and epoch < self.first_epoch and not self.recorder.begun:
            return
        with self.parts.part("snapshots"):
            if self.capture == "epoch_end":
                self._pass_over_images(runner)
            snapshot = self.buffer.finish(epoch)
            self.recorder.end_epoch(snapshot, last=epoch == runner.max_epochs)

    @torch.no_grad()
    def _pass_over_images(self, runner: Runner) -> None:
        if self.epoch_end_batches is None:
            raise LTBenchError("snapshots.capture='epoch_end' needs batches of the training images")
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.eval()
        for batch in self.epoch_end_batches:
            self.buffer.capture(batch.indices, model.features(batch.images))
        model.train()

    def keep_epoch_in_progress(self) -> None:
        """Let the next checkpoint hold what the epoch captured so far; every rank calls it."""
        if self.capture == "training_forward":
            self._in_flight = self.buffer.state_dict()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Trails and followers travel in the checkpoint, and an epoch in progress."""
        checkpoint["snapshots"] = {**self.recorder.state_dict(), "settings": self.settings}
        if self._in_flight is not None:
            checkpoint["snapshots"]["in_flight"] = self._in_flight
            self._in_flight = None
        checkpoint["meta"]["follower_seconds"] = dict(self.recorder.seconds)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on with the checkpoint's trails and followers."""
        done = int(checkpoint["meta"]["epoch"])
        taken = checkpoint.get("snapshots", {"settings": "none"})["settings"]
        # A checkpoint of an earlier version does not say through what transforms.
        if not isinstance(taken, dict) or {**self.settings, **taken} != self.settings:
            raise LTBenchError(
                f"the checkpoint of epoch {done} took its snapshots with {taken}, this config asks for "
                f"{self.settings}; resume with the settings of before, or train it from the start "
                f"(--restart, or delete {runner.work_dir})"
            )
        missing = self.recorder.load_state_dict(checkpoint["snapshots"])
        if "in_flight" in checkpoint["snapshots"]:
            self.buffer.load_state_dict(checkpoint["snapshots"]["in_flight"])
        self.recorder.seconds.update(checkpoint["meta"]["follower_seconds"])
        self.go_on(missing, done)
