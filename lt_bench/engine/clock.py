"""Time, by parts too, and memory that a stage took, over all the calls that it took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lt_bench.registry import HOOKS
from lt_bench.timing import PartTimes, breakdown

# The seconds of calls by code that measured no parts.
NOT_MEASURED = "not measured"


class PeakMemory:
    """The most memory in use since it was made: of the device, or of the process on a CPU.

    A process's peak cannot be reset, so on a CPU the figure covers the process from its start.

    Args:
        device: what to watch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.most = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read(self) -> int:
        """Bytes."""
        if self.device.type == "cuda":
            now = int(torch.cuda.max_memory_allocated(self.device))
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            now = int(peak) if sys.platform == "darwin" else int(peak) * 1024
        self.most = max(self.most, now)
        return self.most


@HOOKS.register_module("stage_clock")
class StageClock(Hook):
    """Keeps seconds of training and peak memory in the checkpoints: a resumed stage knows them all.

    Args:
        memory: the peak since this call began.
        parts: where the seconds go.
    """

    priority = "NORMAL"

    def __init__(self, memory: PeakMemory, parts: PartTimes) -> None:
        self.memory = memory
        self.parts = parts
        self.before = 0.0
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier calls included."""
        return self.before + time.perf_counter() - self._started

    def breakdown(self) -> dict[str, float]:
        """Seconds by part, earlier calls included; they add up to :attr:`seconds` of now."""
        parts = self.parts.seconds()
        return breakdown(parts, self.seconds)

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        """What the block takes before the run is of the stage, too, as part ``name``."""
        started = time.perf_counter()
        with self.parts.part(name):
            yield
        self.parts.wait()
        self.before += time.perf_counter() - started

    def before_run(self, runner: Runner) -> None:
        """Start the clock: what a resume makes up for before it trains counts."""
        self._started = time.perf_counter()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Where the loss is read, MMEngine's log comes next and resets the device's peak."""
        if outputs is not None:
            self.memory.read()

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """MMEngine's log of a validation resets the device's peak too."""
        self.memory.read()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note time and memory so far."""
        checkpoint["meta"]["stage_parts"] = self.parts.seconds()
        checkpoint["meta"]["stage_seconds"] = self.seconds
        checkpoint["meta"]["peak_memory_bytes"] = self.memory.read()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on from those of the calls before."""
        before = float(checkpoint["meta"]["stage_seconds"])
        self.before += before
        followers = sum(checkpoint["meta"].get("follower_seconds", {}).values())
        unknown = {"followers": followers, NOT_MEASURED: before - followers}
        self.parts.add(checkpoint["meta"].get("stage_parts", unknown))
        self.memory.most = max(self.memory.most, int(checkpoint["meta"]["peak_memory_bytes"]))
