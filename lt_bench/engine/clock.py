"""Time and memory that a stage took, over all the calls that it took."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lt_bench.registry import HOOKS


class PeakMemory:
    """The most memory in use since it was made: of the device, or of the process on a CPU.

    A process's peak cannot be reset, so on a CPU the figure covers the process from its start.

    Args:
        device: what to watch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read(self) -> int:
        """Bytes."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) if sys.platform == "darwin" else int(peak) * 1024


@HOOKS.register_module("stage_clock")
class StageClock(Hook):
    """Adds up the seconds of training in the checkpoints, so that a resumed stage knows them all."""

    priority = "NORMAL"

    def __init__(self) -> None:
        self.before = 0.0
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier calls included."""
        return self.before + time.perf_counter() - self._started

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the time so far."""
        checkpoint["meta"]["stage_seconds"] = self.seconds

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on from the time of the calls before."""
        self.before = float(checkpoint["meta"].get("stage_seconds", 0.0))
