"""Writing tables and checking that regenerating them changes no byte."""

from __future__ import annotations

import pytest

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import read_records, write_record
from lt_bench.leaderboard.spec import list_specs, load_spec
from lt_bench.leaderboard.writing import FORMATS, check_tables, write_table


@pytest.fixture
def records_dir(make_record, tmp_path):
    folder = tmp_path / "records"
    for seed in range(3):
        for place, name in enumerate(("digits_lt/plain", "digits_lt/crt")):
            hits = (40 + seed, 30 + place, 20 - seed, 10 + place * seed)
            record = make_record(name, seed, hits)
            write_record(record, folder)
    return folder


def write_all(records_dir, tables_dir):
    records = read_records(records_dir)
    return [path for name in list_specs() for path in write_table(load_spec(name), records, tables_dir)]


def test_regenerating_changes_no_byte(records_dir, tmp_path):
    tables = tmp_path / "tables"
    paths = write_all(records_dir, tables)
    assert len(paths) == 4 * len(list_specs()) == len(list(tables.iterdir()))
    before = {path: path.read_bytes() for path in paths}
    assert check_tables(records_dir, tables) == []
    write_all(records_dir, tables)
    assert {path: path.read_bytes() for path in paths} == before


def test_the_order_in_which_records_are_read_does_not_matter(records_dir, tmp_path):
    records = read_records(records_dir)
    spec = load_spec("digits_lt")
    first = [path.read_bytes() for path in write_table(spec, records, tmp_path / "a")]
    second = [path.read_bytes() for path in write_table(spec, records[::-1], tmp_path / "b")]
    assert first == second


def test_what_differs_or_is_missing_is_listed(records_dir, tmp_path, make_record):
    tables = tmp_path / "tables"
    write_all(records_dir, tables)
    (tables / "table1.md").write_text("edited by hand")
    (tables / "table3.tex").unlink()
    assert check_tables(records_dir, tables) == [tables / "table1.md", tables / "table3.tex"]
    assert check_tables(records_dir, tables, names=["table2"]) == []
    assert check_tables(records_dir, tables, names=["table1"], formats=["csv"]) == []
    write_record(make_record("digits_lt/plain", 7), records_dir)
    changed = check_tables(records_dir, tables, names=["digits_lt"])
    assert changed == [tables / f"digits_lt.{form}" for form in FORMATS]


def test_files_hold_no_path_and_no_date(records_dir, tmp_path):
    for path in write_all(records_dir, tmp_path / "tables"):
        text = path.read_text()
        assert str(tmp_path) not in text and "2026" not in text


def test_formats_are_chosen_and_a_wrong_one_writes_nothing(records_dir, tmp_path):
    records = read_records(records_dir)
    spec = load_spec("digits_lt")
    paths = write_table(spec, records, tmp_path / "a", ["md"])
    assert [path.name for path in paths] == ["digits_lt.md"]
    with pytest.raises(LTBenchError, match="unknown table format 'xls'"):
        write_table(spec, records, tmp_path / "b", ["md", "xls"])
    assert not (tmp_path / "b").exists()


def test_an_unwritable_folder_is_refused(records_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LTBenchError, match="cannot write"):
        write_table(load_spec("table1"), [], tmp_path / "file" / "tables")
