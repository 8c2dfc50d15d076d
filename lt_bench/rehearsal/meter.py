"""Seconds and peak memory of each part of a rehearsal.

On CUDA the peak is the allocator's (``max_memory_allocated``). The process's own is its resident set: Linux
keeps its high-water mark and lets a process reset it (``/proc/self/clear_refs``), so every part has a peak
of its own. Elsewhere there is one peak, of the whole process.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
# What clear_refs takes to mean: the high-water mark begins anew at what is resident now.
_PEAK_RSS = "5"


@dataclass
class Part:
    """What one part took.

    Attributes:
        name: of the part.
        calls: how often it was entered.
        seconds: in all calls together.
        peak_rss: bytes resident at the most during a call, None where it cannot be told.
        peak_device: bytes allocated on the CUDA device at the most during a call, None without one.
    """

    name: str
    calls: int = 0
    seconds: float = 0.0
    peak_rss: int | None = None
    peak_device: int | None = None


class Meter:
    """Times parts; they do not nest.

    Args:
        device: where the work is done.

    Attributes:
        parts: by name, in the order of their first call.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.parts: dict[str, Part] = {}
        self._resettable = reset_peak_rss()
        self._open: str | None = None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """One call of the part ``name``."""
        if self._open is not None:
            raise RuntimeError(f"part {name!r} begins within {self._open!r}; parts do not nest")
        part = self.parts.setdefault(name, Part(name))
        self._open = name
        if self._resettable:
            reset_peak_rss()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        started = time.perf_counter()
        try:
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        finally:
            self._open = None
            part.seconds += time.perf_counter() - started
            part.calls += 1
            if self._resettable:
                part.peak_rss = max(part.peak_rss or 0, peak_rss())
            if self.device.type == "cuda":
                part.peak_device = max(part.peak_device or 0, torch.cuda.max_memory_allocated(self.device))

    def allocated(self) -> int | None:
        """Bytes in use now on the device that features lie on; None where it cannot be told."""
        if self.device.type == "cuda":
            return int(torch.cuda.memory_allocated(self.device))
        if not self._resettable:
            return None
        reset_peak_rss()
        return peak_rss()

    def peak(self, names: Iterator[str] | list[str]) -> int | None:
        """The highest peak of the named parts, of the device's memory where that is CUDA, else resident."""
        kind = "peak_device" if self.device.type == "cuda" else "peak_rss"
        peaks = [getattr(self.parts[name], kind) for name in names if name in self.parts]
        known = [peak for peak in peaks if peak is not None]
        return max(known) if known else None


def peak_rss() -> int:
    """Bytes that were resident at the most since the last reset, or in the process's life."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def reset_peak_rss() -> bool:
    """Begin the high-water mark anew; whether this system can."""
    try:
        _RESET.write_text(_PEAK_RSS)
    except OSError:
        return False
    return True


def device_name(device: torch.device) -> str:
    """What a reader knows the device by."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
