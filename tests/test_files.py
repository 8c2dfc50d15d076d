"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import lt_bench.files as files
from lt_bench.errors import LTBenchError
from lt_bench.files import write_atomically


def test_text_and_bytes_with_ordinary_permissions(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a" / "b.txt", "τ")
    assert path.read_bytes() == "τ".encode()
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.listdir(path.parent) == ["b.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "kept", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(LTBenchError, match=r"cannot write .*kept: No space left on device; free space"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["kept"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LTBenchError, match="choose a folder you may write to"):
        write_atomically(tmp_path / "file" / "below" / "x", "new")
