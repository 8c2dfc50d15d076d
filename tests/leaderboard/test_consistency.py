"""Published rows that disagree with themselves are found, and only those."""

from __future__ import annotations

import dataclasses

import pytest

from lt_bench.leaderboard.consistency import disagreements, weighted_overall
from lt_bench.leaderboard.spec import load_spec


def test_weighted_overall_by_hand():
    sizes = {"many": 2, "medium": 3, "few": 5}
    values = {"overall": 1.0, "many": 10.0, "medium": 20.0, "few": 30.0}
    assert weighted_overall(values, sizes) == pytest.approx((20 + 60 + 150) / 10)
    assert weighted_overall({"overall": 1.0}, sizes) is None
    no_few = {"many": 2, "medium": 2, "few": 0}
    assert weighted_overall({"many": 10.0, "medium": 20.0}, no_few) == 15.0


def test_the_paper_has_two_such_rows():
    found = {}
    for name in ("table1", "table2", "table3", "table4"):
        for section in load_spec(name).sections:
            for label, overall, implied in disagreements(section, section.class_counts):
                found[name, section.title, label] = (overall, round(implied, 1))
    places = "Places-LT, ResNet-152"
    assert found == {
        ("table2", places, "Plain Model"): (27.2, 26.2),
        ("table2", places, "OLTR"): (35.9, 37.3),
    }


def test_the_tolerance_and_unknown_class_counts():
    section = load_spec("table2").sections[1]
    assert disagreements(section, None) == []
    assert disagreements(section, section.class_counts, tolerance=2.0) == []
    strict = dataclasses.replace(section, convention="strict")
    assert len(disagreements(strict, {"many": 131, "medium": 163, "few": 71})) == 2
