"""The column that compares every row with the section's reference, seed by seed."""

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
from lt_bench.leaderboard.statistics import holm, paired_difference


@pytest.fixture
def spec(toy_spec):
    section = dataclasses.replace(toy_spec.sections[0], reference="toy_lt/crt")
    return dataclasses.replace(toy_spec, sections=(section,))


def runs(make_record, name, *overall):
    """One record a seed; ``overall`` in hits of 200, all of them in the first two classes."""
    return [make_record(name, seed=seed, hits=(50, hits - 50, 0, 0)) for seed, hits in enumerate(overall)]


def test_differences_are_taken_over_the_common_seeds(make_record, spec):
    records = [
        *runs(make_record, "toy_lt/plain", 60, 62, 61, 70),
        *runs(make_record, "toy_lt/tau_norm", 66, 70),
        *runs(make_record, "toy_lt/crt", 70, 73, 70),
    ]
    section = build_table(spec, records).sections[0]
    rows = {row.label: row for row in section.rows}
    plain, tau = rows["Plain"].versus, rows["τ-norm"].versus
    assert rows["cRT"].versus is None and section.reference == "cRT"
    assert plain.seeds == (0, 1, 2) and tau.seeds == (0, 1)
    assert plain.difference == paired_difference([30.0, 31.0, 30.5], [35.0, 36.5, 35.0])
    assert [plain.adjusted_p, tau.adjusted_p] == holm([plain.difference.p, tau.difference.p])
    markdown = render(build_table(spec, records), "md")
    assert "− cRT |" in markdown.splitlines()[4] and "-5.0 ± 1.2 *" in markdown
    assert "p < 0.05 after Holm's correction for 2 comparisons" in markdown
    lines = {
        line["label"]: line for line in csv.DictReader(io.StringIO(render(build_table(spec, records), "csv")))
    }
    assert lines["Plain"]["difference"] == "-5.0000" and lines["cRT"]["difference"] == ""
    stored = json.loads(render(build_table(spec, records), "json"))["sections"][0]
    assert stored["reference"] == "toy_lt/crt" and stored["rows"][0]["versus"]["seeds"] == [0, 1, 2]
    assert "$-$ cRT" in render(build_table(spec, records), "tex")


def test_one_seed_gives_a_difference_and_no_test(make_record, spec):
    records = [*runs(make_record, "toy_lt/plain", 60), *runs(make_record, "toy_lt/crt", 60)]
    markdown = render(build_table(spec, records), "md")
    assert "| +0.0 |" in markdown.replace("     ", " ").replace("   ", " ").replace("  ", " ")
    assert "Holm" not in markdown and "minus that of cRT" in markdown


def test_no_column_without_the_reference(make_record, spec):
    table = build_table(spec, runs(make_record, "toy_lt/plain", 60, 61))
    assert table.sections[0].reference is None
    assert "− cRT" not in render(table, "md")


def test_other_data_are_not_compared(make_record, spec):
    plain = runs(make_record, "toy_lt/plain", 60, 61)
    other = [dataclasses.replace(r, dataset={**r.dataset, "identity": "cd" * 32}) for r in plain]
    section = build_table(spec, [*other, *runs(make_record, "toy_lt/crt", 70, 71)]).sections[0]
    assert all(row.versus is None for row in section.rows)


def test_a_reference_is_one_of_the_rows():
    section = {"title": "T", "dataset": "d", "convention": "strict", "rows": [], "reference": "d/crt"}
    with pytest.raises(LTBenchError, match="its reference 'd/crt' is the config of none of its rows"):
        parse_spec({"name": "t", "title": "T", "metrics": ["overall"], "sections": [section]})
