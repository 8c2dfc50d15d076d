"""The column that gives a row's training time in that of plain."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from lt_bench.errors import LTBenchError
from lt_bench.leaderboard.build import build_table
from lt_bench.leaderboard.render import render
from lt_bench.leaderboard.spec import parse_spec

HERE = {"cpu": "A", "device": "cpu", "threads": 2}


@pytest.fixture
def spec(toy_spec):
    section = dataclasses.replace(toy_spec.sections[0], cost_unit="toy_lt/plain")
    return dataclasses.replace(toy_spec, sections=(section,))


def timed(make_record, name, seed, stage1, classifier, **environment):
    seconds = {"stage1": stage1, "classifier": classifier, "evaluation": 1000.0}
    return make_record(name, seed=seed, stage_seconds=seconds, environment={**HERE, **environment})


def test_costs_are_paired_over_seeds(make_record, spec):
    records = [
        timed(make_record, "toy_lt/plain", 0, 100.0, 0.0),
        timed(make_record, "toy_lt/plain", 1, 200.0, 0.0),
        timed(make_record, "toy_lt/crt", 0, 100.0, 10.0),
        timed(make_record, "toy_lt/crt", 1, 200.0, 60.0),
        timed(make_record, "toy_lt/tau_norm", 1, 200.0, 1.0),
    ]
    table = build_table(spec, records)
    rows = {row.label: row for row in table.sections[0].rows}
    assert rows["Plain"].cost == 1.0
    assert rows["cRT"].cost == pytest.approx((1.1 + 1.3) / 2)
    assert rows["τ-norm"].cost == pytest.approx(1.005)
    assert rows["CE, elsewhere"].cost is None
    markdown = render(table, "md")
    assert "Cost (× Plain)" in markdown and " 1.20 |" in markdown
    assert "- Cost: seconds of stage 1, its teachers and the classifier over those of Plain" in markdown
    lines = {line["label"]: line for line in csv.DictReader(io.StringIO(render(table, "csv")))}
    assert (lines["cRT"]["cost"], lines["CE, elsewhere"]["cost"]) == ("1.2000", "")
    stored = json.loads(render(table, "json"))["sections"][0]
    assert stored["cost_unit"] == "toy_lt/plain" and stored["rows"][1]["cost"] == 1.005
    assert r"Cost ($\times$ Plain)" in render(table, "tex")


@pytest.mark.parametrize("other", [{"cpu": "B"}, {"device": "H200"}, {"threads": 1}])
def test_times_of_other_machines_are_not_compared(make_record, spec, other):
    records = [
        timed(make_record, "toy_lt/plain", 0, 100.0, 0.0),
        timed(make_record, "toy_lt/crt", 0, 100.0, 10.0, **other),
    ]
    table = build_table(spec, records)
    assert table.sections[0].cost_unit is None
    assert "Cost" not in render(table, "md")


@pytest.mark.parametrize("where", [{"threads": 1}, {"cpu": "B"}])
def test_times_of_stages_that_were_trained_elsewhere_are_not_compared(make_record, spec, where):
    """A classifier may be fitted in another call, on another machine, than its stage 1 was trained."""
    plain = timed(make_record, "toy_lt/plain", 0, 100.0, 0.0)
    crt = timed(make_record, "toy_lt/crt", 0, 50.0, 10.0)

    def cost(*places, **processes):
        calls = [{"version": "0", "environment": {**HERE, **place}, **processes} for place in places]
        known = dataclasses.replace(crt, stage1={**crt.stage1, "trained_by": calls})
        rows = {row.label: row for row in build_table(spec, [plain, known]).sections[0].rows}
        return rows["cRT"].cost

    assert cost({}) == pytest.approx(0.6)
    assert cost(where) is None
    assert cost({}, where) is None, "nobody knows how the seconds are shared out"
    assert cost({}, processes=4) is None


def test_what_a_stage_learned_from_is_part_of_its_cost(make_record, spec):
    plain = timed(make_record, "toy_lt/plain", 0, 100.0, 0.0)
    crt = timed(make_record, "toy_lt/crt", 0, 100.0, 10.0)

    def cost(**place):
        call = {"version": "0", "environment": {**HERE, **place}}
        experts = {
            "a1": {"name": "many", "seconds": 60.0, "trained_by": None},
            "b2": {"name": "few", "seconds": 30.0, "trained_by": [call]},
        }
        taught = dataclasses.replace(crt, stage1={**crt.stage1, "teachers": experts})
        rows = {row.label: row for row in build_table(spec, [plain, taught]).sections[0].rows}
        return rows["cRT"].cost

    assert cost() == pytest.approx(2.0)
    assert cost(cpu="B") is None, "the seconds of two processors cannot be added"


def test_no_costs_unless_asked_for_and_none_without_times(make_record, toy_spec, spec):
    records = [timed(make_record, name, 0, 1.0, 1.0) for name in ("toy_lt/plain", "toy_lt/crt")]
    assert all(row.cost is None for row in build_table(toy_spec, records).sections[0].rows)
    timeless = [make_record("toy_lt/plain"), make_record("toy_lt/crt")]
    assert all(row.cost is None for row in build_table(spec, timeless).sections[0].rows)


def test_the_unit_is_one_of_the_rows():
    section = {"title": "T", "dataset": "d", "convention": "strict", "rows": [], "cost_unit": "d/plain"}
    with pytest.raises(LTBenchError, match="its cost_unit 'd/plain' is the config of none of its rows"):
        parse_spec({"name": "t", "title": "T", "metrics": ["overall"], "sections": [section]})
