"""Per-class curves: order, groups, pooling over seeds and smoothing, against loops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import RunRecord, write_record
from lt_bench.figures.class_accuracy import class_accuracy, find_records, smoothed
from tests.leaderboard.conftest import COUNTS, make_record

__all__ = ["make_record"]


def slowly_smoothed(values: list[float], window: int) -> list[float]:
    found = []
    for place in range(len(values)):
        near = values[max(0, place - window // 2) : place + window // 2 + 1]
        known = [value for value in near if not math.isnan(value)]
        found.append(sum(known) / len(known) if known else math.nan)
    return found


@pytest.mark.parametrize("window", [1, 3, 5, 9])
def test_smoothing(window: int) -> None:
    draw = torch.Generator().manual_seed(window)
    values = torch.rand(9, generator=draw, dtype=torch.float64)
    values[[3, 4]] = math.nan
    expected = torch.tensor(slowly_smoothed(values.tolist(), window), dtype=torch.float64)
    torch.testing.assert_close(smoothed(values, window), expected, equal_nan=True)


def test_seeds_are_pooled_and_classes_sorted(make_record: Callable[..., RunRecord]) -> None:
    records = [
        make_record("toy_lt/plain", 0, hits=(40, 30, 20, 10)),
        make_record("toy_lt/crt", 0, hits=(10, 20, 30, 40)),
        make_record("toy_lt/plain", 1, hits=(20, 40, 0, 50)),
    ]
    curves = class_accuracy(records, window=3)
    assert curves["config"].unique().tolist() == ["toy_lt/plain", "toy_lt/crt"]
    plain = curves[curves["config"] == "toy_lt/plain"]
    # Two seeds of 50 test images a class.
    accuracy = [100 * (a + b) / 100 for a, b in zip((40, 30, 20, 10), (20, 40, 0, 50), strict=True)]
    assert plain["accuracy"].tolist() == pytest.approx(accuracy)
    assert plain["smoothed"].tolist() == pytest.approx(slowly_smoothed(accuracy, 3))
    assert set(plain["seeds"]) == {2} and set(curves[curves["config"] == "toy_lt/crt"]["seeds"]) == {1}
    assert plain["images"].tolist() == list(COUNTS) and plain["rank"].tolist() == [1, 2, 3, 4]
    assert plain["group"].tolist() == ["many", "many", "medium", "few"]


def test_classes_in_any_order_and_untested_ones(make_record: Callable[..., RunRecord]) -> None:
    record = make_record()
    scores = dataclasses.replace(record.scores, per_class=(1.0, None, 3.0, 4.0), tested=(50, 0, 50, 50))
    dataset = {**record.dataset, "counts": [7, 300, 300, 50]}
    curves = class_accuracy([dataclasses.replace(record, scores=scores, dataset=dataset)], window=1)
    assert curves["class"].tolist() == [2, 3, 0] and curves["rank"].tolist() == [2, 3, 4]
    assert curves["accuracy"].tolist() == [3.0, 4.0, 1.0]


def test_equal_labels_are_told_apart(make_record: Callable[..., RunRecord]) -> None:
    two = [make_record("toy_lt/plain"), make_record("other/plain")]
    assert class_accuracy(two)["method"].unique().tolist() == ["plain (toy_lt/plain)", "plain (other/plain)"]


def test_what_does_not_compare_is_refused(make_record: Callable[..., RunRecord]) -> None:
    first = make_record()
    other = make_record("toy_lt/crt")
    with pytest.raises(LTBenchError, match="toy_lt/plain is of toy_lt and toy_lt/crt of other data"):
        class_accuracy([first, dataclasses.replace(other, dataset={**other.dataset, "identity": "cd" * 32})])
    with pytest.raises(LTBenchError, match="'strict' and toy_lt/crt under 'paper'"):
        scores = dataclasses.replace(other.scores, convention="paper")
        class_accuracy([first, dataclasses.replace(other, scores=scores)])
    with pytest.raises(LTBenchError, match="differ in the config's stage1.epochs"):
        class_accuracy([first, make_record(seed=1, config={"stage1": {"epochs": 5}})])
    for window in (0, 2, 5, -1):
        with pytest.raises(LTBenchError, match=f"odd number of classes from 1 to 4, got {window}"):
            class_accuracy([first], window)


def test_finding_records(tmp_path: Path, make_record: Callable[..., RunRecord]) -> None:
    made = [make_record("toy_lt/plain", seed) for seed in (0, 1)] + [make_record("toy_lt/crt")]
    paths = [write_record(record, tmp_path) for record in made]
    assert find_records([], tmp_path) == [made[2], made[0], made[1]]
    assert find_records(["toy_lt"], tmp_path) == [made[2], made[0], made[1]]
    assert find_records(["toy_lt/plain", "toy_lt/crt"], tmp_path) == made
    assert find_records([str(paths[1]), "toy_lt/plain"], tmp_path) == [made[1], made[0]]
    with pytest.raises(LTBenchError, match="did you mean 'toy_lt/plain'"):
        find_records(["toy_lt/plan"], tmp_path)
    elsewhere = write_record(make_record("toy_lt/crt", hits=(1, 2, 3, 4)), tmp_path / "elsewhere")
    with pytest.raises(LTBenchError, match="two records of toy_lt/crt with seed 0"):
        find_records(["toy_lt/crt", str(elsewhere)], tmp_path)
    with pytest.raises(LTBenchError, match="no folder of run records"):
        find_records([], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LTBenchError, match="has no record; run a config"):
        find_records([], tmp_path / "empty")
