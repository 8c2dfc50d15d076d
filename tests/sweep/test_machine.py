"""Memory that is free on a machine of files and a stand-in for nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.sweep import machine


def test_free_memory_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  200 kB\nMemAvailable:   100 kB\n")
    monkeypatch.setattr(machine, "MEMORY_OF_PROCESSES", meminfo)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.memory_reader([])(0) == 100 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_reader([])(0) == 100 * 1024
    (tmp_path / "memory.max").write_text("50000\n")
    (tmp_path / "memory.current").write_text("30000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 4000\n")
    assert machine.memory_reader([])(0) == 24000
    meminfo.unlink()
    assert machine.memory_reader([]) is None


def test_free_memory_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for nvidia-smi that answers for one GPU and refuses others."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --id=GPU-b ] || exit 6\necho 512\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.memory_reader(["GPU-b"])(0) == 512 * 2**20
    assert machine.memory_reader(["3"]) is None
    read = machine.memory_reader(["GPU-b"])
    program.write_text("#!/bin/sh\nexit 6\n")
    assert read(0) is None
    program.unlink()
    assert machine.memory_reader(["GPU-b"]) is None
