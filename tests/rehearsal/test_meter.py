"""Peaks and times of parts."""

from __future__ import annotations

import mmap
import sys
import time

import pytest
import torch

from lt_bench.rehearsal.meter import Meter, peak_rss, reset_peak_rss

CPU = torch.device("cpu")
SIZE = 200 * 2**20


def test_calls_and_seconds_add_up() -> None:
    meter = Meter(CPU)
    for _ in range(2):
        with meter.part("a"):
            time.sleep(0.01)
    with meter.part("b"):
        pass
    assert list(meter.parts) == ["a", "b"]
    assert meter.parts["a"].calls == 2 and meter.parts["a"].seconds >= 0.02 > meter.parts["b"].seconds


def test_parts_do_not_nest_and_a_failing_part_is_closed() -> None:
    meter = Meter(CPU)
    with (
        pytest.raises(RuntimeError, match="'inner' begins within 'outer'"),
        meter.part("outer"),
        meter.part("inner"),
    ):
        pass
    with meter.part("next"):
        pass
    assert meter.parts["outer"].calls == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets a process's peak")
def test_each_part_has_a_peak_of_its_own() -> None:
    if not reset_peak_rss():
        pytest.skip("this system does not let a process reset its peak")
    meter = Meter(CPU)
    # Straight from the system: an allocator may hand out pages that earlier tests left it.
    with meter.part("large"), mmap.mmap(-1, SIZE) as block:
        for page in range(0, SIZE, mmap.PAGESIZE):
            block[page] = 1
    with meter.part("small"):
        pass
    large, small = (meter.parts[name].peak_rss for name in ("large", "small"))
    assert large is not None and small is not None
    assert large - small > 0.9 * SIZE
    assert meter.peak(["large", "small", "never entered"]) == large
    assert meter.parts["large"].peak_device is None
    held = meter.allocated()
    assert held is not None and held < large


def test_without_a_reset_there_is_one_peak(monkeypatch) -> None:
    monkeypatch.setattr("lt_bench.rehearsal.meter.reset_peak_rss", lambda: False)
    meter = Meter(CPU)
    with meter.part("a"):
        pass
    assert meter.parts["a"].peak_rss is None and meter.peak(["a"]) is None and meter.allocated() is None
    assert peak_rss() > 2**20
