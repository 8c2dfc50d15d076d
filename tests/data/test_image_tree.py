"""Sizes of listed files from one reading of each folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lt_bench.data import image_tree
from lt_bench.data.image_tree import file_sizes
from lt_bench.errors import LTBenchError


def test_sizes_are_those_of_stat_and_missing_is_minus_one(tmp_path: Path) -> None:
    (tmp_path / "a" / "sub").mkdir(parents=True)
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "a" / "empty").write_bytes(b"")
    (tmp_path / "top").write_bytes(b"12345")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "top")
    (tmp_path / "a" / "broken").symlink_to(tmp_path / "nothing")
    paths = [
        "a/x",
        "a/empty",
        "top",
        "a/link",
        "a/broken",
        "a/sub",
        "a/gone",
        "no/folder",
        "top/x",
        "a/x",
        "n\0",
    ]
    assert file_sizes(tmp_path, paths).tolist() == [3, 0, 5, 5, -1, -1, -1, -1, -1, 3, -1]
    assert file_sizes(tmp_path, []).shape == (0,)


def test_a_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"{folder}/{i}" for folder in "abc" for i in range(20)]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"1")
    read: list[str] = []

    def scandir(folder: str) -> object:
        read.append(folder)
        return os_scandir(folder)

    os_scandir = os.scandir
    monkeypatch.setattr(image_tree.os, "scandir", scandir)
    assert file_sizes(tmp_path, paths).tolist() == [1] * 60
    assert sorted(Path(folder).name for folder in read) == ["a", "b", "c"]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(folder: str) -> object:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(image_tree.os, "scandir", scandir)
    with pytest.raises(LTBenchError, match="cannot read the image folder .*a: Permission denied"):
        file_sizes(tmp_path, ["a/x"])
