"""Where a dataset is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.data.sources.find import find_sources, places
from lt_bench.data.sources.source import Sources
from lt_bench.errors import LTBenchError


def test_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LT_BENCH_DATA", raising=False)
    assert places(None, "cifar100") == [Path("data/cifar100"), Path("data")]
    monkeypatch.setenv("LT_BENCH_DATA", str(tmp_path))
    assert places(None, "cifar100") == [tmp_path / "cifar100", tmp_path]
    assert places("~/x", "cifar100") == [Path.home() / "x"]
    assert places(tmp_path / "y", "cifar100") == [tmp_path / "y"]


def test_the_first_place_and_the_first_format_win() -> None:
    tried: list[tuple[Path, str]] = []
    found = object()

    def finder(name: str, hit: Path) -> object:
        def look(place: Path) -> object | None:
            tried.append((place, name))
            return found if place == hit else None

        return look

    here, there = Path("here"), Path("there")
    finders = {"a": finder("a", there), "b": finder("b", here)}
    assert find_sources("x", [here, there], finders) is found  # type: ignore[arg-type]
    assert tried == [(here, "a"), (here, "b")]


def test_a_download_is_tried_once() -> None:
    fetched: list[Path] = []

    def nothing(place: Path) -> Sources | None:
        return None

    with pytest.raises(LTBenchError, match="no x in here or there: expected a folder, or a file"):
        find_sources(
            "x",
            [Path("here"), Path("there")],
            {"a folder": nothing, "a file": nothing},
            download=fetched.append,
        )
    assert fetched == [Path("here")]
