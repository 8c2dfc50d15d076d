"""What operators a few steps of stage 1 spend their time in: torch's profiler, by MMEngine's hook."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from mmengine.hooks import ProfilerHook
from torch.profiler import profile

from lt_bench.files import replacing, write_atomically

# Steps left out, steps that warm the profiler up, steps recorded.
SKIPPED, WARM_UP, RECORDED = 2, 1, 4
ROWS = 30


def operator_profiler(folder: Path, device: torch.device, steps: int) -> ProfilerHook:
    """A hook that profiles steps of the first epoch of a call.

    It writes ``operators.txt``, the operators in order of their own time, and ``trace.json``, which
    ``chrome://tracing`` or Perfetto shows.

    Args:
        folder: where to.
        device: of the training.
        steps: steps an epoch. Where they are fewer than are wanted, fewer are recorded.
    """
    skipped = min(SKIPPED, max(0, steps - WARM_UP - 1))
    recorded = max(1, min(RECORDED, steps - skipped - WARM_UP))
    return ProfilerHook(
        by_epoch=False,
        profile_times=min(steps, skipped + WARM_UP + recorded),
        activity_with_cuda=device.type == "cuda",
        schedule={"wait": skipped, "warmup": WARM_UP, "active": recorded, "repeat": 1},
        on_trace_ready=partial(_write, folder, device.type),
    )


def _write(folder: Path, device_type: str, profiled: profile) -> None:
    key = "self_cpu_time_total" if device_type == "cpu" else "self_device_time_total"
    table = profiled.key_averages().table(sort_by=key, row_limit=ROWS, max_name_column_width=60)
    write_atomically(folder / "operators.txt", table + "\n")
    with replacing(folder / "trace.json") as temporary:
        profiled.export_chrome_trace(str(temporary))
