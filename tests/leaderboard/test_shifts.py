"""Boards of shifted test distributions: computed from per-class accuracies, shown only where asked for."""

from __future__ import annotations

import dataclasses
import json

import pytest

from lt_bench.config import load_experiment
from lt_bench.evaluation.shifted import SHIFTS
from lt_bench.leaderboard.build import build_table
from lt_bench.leaderboard.metrics import HEADINGS, METRICS, held, value_of
from lt_bench.leaderboard.render import render
from lt_bench.leaderboard.spec import load_spec
from lt_bench.leaderboard.statistics import estimate

BOARDS = {"digits_lt_shifts": "", "cifar100_lt_shifts": "_r32"}
ACCURACIES = (80.0, 60.0, 40.0, 20.0)  # of 40, 30, 20 and 10 of 50, the most frequent class first


def by_hand(name: str, accuracies: tuple[float | None, ...] = ACCURACIES) -> float:
    direction, _, factor = name.partition("-")
    weights = [float(factor or 1) ** (-rank / 3) for rank in range(4)]
    if direction == "backward":
        weights.reverse()
    pairs = [(w, a) for w, a in zip(weights, accuracies, strict=True) if a is not None]
    return sum(w * a for w, a in pairs) / sum(w for w, _ in pairs)


@pytest.mark.parametrize("name", SHIFTS)
def test_value_is_the_weighted_mean_of_class_accuracies(make_record, name):
    record = make_record(hits=(40, 30, 20, 10))
    assert value_of(record, record.scores, name) == pytest.approx(by_hand(name), rel=1e-12)
    untested = dataclasses.replace(record.scores, per_class=(80.0, None, 40.0, 20.0))
    expected = by_hand(name, (80.0, None, 40.0, 20.0))
    assert value_of(record, untested, name) == pytest.approx(expected, rel=1e-12)


def test_uniform_is_the_class_mean_and_a_shift_its_neighbours_order(make_record):
    record = make_record(hits=(40, 30, 20, 10))
    values = [value_of(record, record.scores, name) for name in SHIFTS]
    assert values[SHIFTS.index("uniform")] == pytest.approx(record.scores.mean_class)
    assert values == sorted(values, reverse=True)  # better on frequent classes, so best far forward


def test_seeds_are_pooled_and_files_hold_what_is_shown(make_record, toy_spec):
    spec = dataclasses.replace(toy_spec, metrics=("overall", "backward-50", "forward-2"))
    records = [make_record(seed=0, hits=(40, 30, 20, 10)), make_record(seed=1, hits=(44, 30, 22, 8))]
    table = build_table(spec, records)
    (row,) = (row for row in table.sections[0].rows if row.label == "Plain")
    values = [value_of(record, record.scores, "backward-50") for record in records]
    assert row.measured["backward-50"] == estimate(values)
    assert "Backward 50" in render(table, "md") and "Backward 50" in render(table, "tex")
    assert "exponential profile" in render(table, "md")
    header = render(table, "csv").partition("\n")[0].split(",")
    assert [name for name in header if name in HEADINGS] == [*METRICS, "forward-2", "backward-50"]
    (first, *_) = json.loads(render(table, "json"))["sections"][0]["rows"]
    assert list(first["measured"]) == [*METRICS, "forward-2", "backward-50"]
    plain = build_table(toy_spec, records)
    assert held(toy_spec.metrics) == tuple(METRICS)
    assert "ackward" not in "".join(render(plain, form) for form in ("md", "csv", "json", "tex"))


@pytest.mark.parametrize(("board", "suffix"), BOARDS.items())
def test_shipped_boards_have_sade_weighted_for_each(board, suffix):
    spec, dataset = load_spec(board), board.removesuffix("_shifts")
    assert spec.metrics == SHIFTS and not spec.open and board in load_spec(dataset).elsewhere
    alike, weighted = spec.sections
    assert alike.rows[-1].config == f"{dataset}/sade{suffix}"
    own = {row.config: row.label for row in load_spec(dataset).sections[0].rows}
    assert all(row.label == own[row.config] for row in alike.rows)
    stage1 = None
    for row, name in zip(weighted.rows, SHIFTS, strict=True):
        config = load_experiment(row.config).config
        classifier = config["method"]["classifier"]
        assert (classifier["type"], classifier["test_distribution"]) == ("sade_aggregated", name)
        assert row.label == config["method"]["label"] == f"SADE, aggregated for {name}"
        trained = (config["stage1"], config["model"], config["method"]["representation"])
        stage1 = stage1 or trained
        assert trained == stage1, "one training for all"
