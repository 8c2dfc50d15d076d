"""What this machine has for a sweep's jobs: GPUs, cores, and memory that is free now."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

MEMORY_OF_PROCESSES = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def visible_gpus() -> list[str]:
    """The GPUs that this process was lent, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = torch.cuda.device_count()
    return named[:count] if named else [str(index) for index in range(count)]


def memory_reader(gpus: Sequence[str]) -> Callable[[int], int | None] | None:
    """What reads the bytes that are free on a device, by its index; None where they cannot be read.

    Of GPUs ``nvidia-smi`` tells, which needs no context on them; of the processor Linux's own files, the
    limit of a container included.

    Args:
        gpus: GPUs, by the names of ``CUDA_VISIBLE_DEVICES``; none for the processor.
    """

    def read(index: int) -> int | None:
        try:
            return _free_of_gpu(gpus[index]) if gpus else _free_of_processes()
        except (OSError, ValueError, KeyError, subprocess.SubprocessError):
            return None

    return None if read(0) is None else read


def _free_of_gpu(name: str) -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        raise FileNotFoundError("nvidia-smi")
    words = [program, f"--id={name}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    return int(told.stdout) * 2**20


def _free_of_processes() -> int:
    lines = dict(line.split(":", 1) for line in MEMORY_OF_PROCESSES.read_text().splitlines())
    machine = int(lines["MemAvailable"].split()[0]) * 1024
    limit = CGROUP / "memory.max"
    if not limit.exists() or limit.read_text().strip() == "max":
        return machine
    stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    # Cached files that nobody has touched for a while are given up on demand.
    used = int((CGROUP / "memory.current").read_text()) - int(stat["inactive_file"])
    return min(machine, int(limit.read_text()) - used)
