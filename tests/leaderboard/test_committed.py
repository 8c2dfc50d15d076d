"""The tables in the repository are, byte for byte, what its records give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lt_bench.config import load_experiment
from lt_bench.evaluation.record import plain, read_records
from lt_bench.leaderboard.spec import list_specs
from lt_bench.leaderboard.writing import check_tables
from lt_bench.run.jobs import recorded_config

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "leaderboards"


def test_regenerating_changes_no_byte() -> None:
    assert check_tables(BOARDS / "records", BOARDS) == []


@pytest.mark.parametrize("name", list_specs())
def test_every_table_is_there(name: str) -> None:
    assert {path.suffix for path in BOARDS.glob(f"{name}.*")} == {".md", ".csv", ".tex", ".json"}


def test_every_record_is_of_a_run() -> None:
    records = read_records(BOARDS / "records")
    assert records
    for record in records:
        assert record.kind == "measured" and record.stage_seconds["stage1"] > 0
        assert record.code["commit"], f"{record.name} seed {record.seed} was not run from a commit"


def test_every_record_is_of_its_config_as_it_stands() -> None:
    """A changed config wants its runs again; a record of another would stand on a board under its name."""
    asked = {}
    for record in read_records(BOARDS / "records"):
        if record.name not in asked:
            asked[record.name] = plain(recorded_config(load_experiment(record.name)))
        assert record.config == asked[record.name], f"{record.name} seed {record.seed}"
    assert len(asked) > 200


def test_the_minutes_that_readme_tells_are_those_of_the_records() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    told = re.search(r"A stage 1 took (\d+) to (\d+) minutes .*?, of experts (\d+)", readme)
    assert told is not None
    alone, experts = [], []
    for record in read_records(BOARDS / "records" / "cifar100_lt"):
        found = experts if record.stage1["recipe"] in ("RIDE", "SADE") else alone
        found.append(record.stage_seconds["stage1"] / 60)
    minutes = (min(alone), max(alone), max(experts))
    assert [int(word) for word in told.groups()] == [round(value) for value in minutes]


def test_latex_is_ascii() -> None:
    """What is not, LaTeX takes only with packages that a board does not ask for."""
    for path in BOARDS.glob("*.tex"):
        assert path.read_text(encoding="utf-8").isascii(), path.name


def test_digits_board_is_whole() -> None:
    seeds: dict[str, set[int | None]] = {}
    for record in read_records(BOARDS / "records"):
        if record.dataset["name"] == "digits_lt":
            seeds.setdefault(record.name, set()).add(record.seed)
    assert len(seeds) >= 11 and all(found == {0, 1, 2, 3, 4} for found in seeds.values())


@pytest.mark.parametrize("name", ["digits_lt", "cifar100_lt"])
def test_what_readme_shows_of_a_board_is_on_it(name: str) -> None:
    readme = (ROOT / "README.md").read_text().split(f"<!-- {name} -->")
    shown = [line for line in readme[1].splitlines() if line.startswith("|")]
    board = (BOARDS / f"{name}.md").read_text().splitlines()
    assert len(shown) > 10
    assert [line for line in shown if line not in board] == []


def test_what_readme_shows_of_the_grid_is_on_it() -> None:
    lines = (ROOT / "README.md").read_text().split("<!-- digits_lt_grid -->")[1].strip().splitlines()
    header, _, *shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    sections = json.loads((BOARDS / "digits_lt_grid.json").read_text())["sections"]
    assert [row[0] for row in shown] == [section["title"] for section in sections]
    for row, section in zip(shown, sections, strict=True):
        kept, *others = section["rows"]
        found = {"kept": f"{kept['measured']['overall']['mean']:.1f}"}
        for other in others:
            star = " *" if other["versus"]["adjusted_p"] < 0.05 else ""
            classifier = other["label"].rpartition(" + ")[2]
            found[classifier] = f"{other['measured']['overall']['mean']:.1f}{star}"
        assert dict(zip(header[1:], row[1:], strict=True)) == {"τ-norm": "–", **found}


def test_the_digits_grid_is_whole() -> None:
    sections = json.loads((BOARDS / "digits_lt_grid.json").read_text())["sections"]
    assert all(row["seeds"] == [0, 1, 2, 3, 4] for section in sections for row in section["rows"])
