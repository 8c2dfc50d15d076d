"""Records: what is written is what is read, and every fault is one sentence naming its field."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import (
    RunRecord,
    find_record,
    plain,
    read_record,
    read_records,
    record_key,
    record_path,
    serialise,
    write_record,
)
from lt_bench.evaluation.record_schema import FIELDS, OPTIONAL

MISSING = object()


def changed(record, **values):
    """The record's content with fields, given by dotted name, set or (MISSING) removed."""
    content = copy.deepcopy(record.to_dict())
    for name, value in values.items():
        *parents, last = name.split("__")
        holder = content
        for parent in parents:
            holder = holder[parent]
        if value is MISSING:
            del holder[last]
        else:
            holder[last] = value
    return content


def test_what_is_written_is_read(record, tmp_path):
    path = write_record(record, tmp_path)
    assert path == tmp_path / "toy_lt" / "plain" / "seed_3.json"
    assert read_record(path) == record
    assert read_records(tmp_path) == [record]
    first = path.read_bytes()
    write_record(read_record(path), tmp_path)
    assert path.read_bytes() == first


def test_the_bytes_are_json_with_sorted_keys_and_one_line_a_list(record, tmp_path):
    text = write_record(record, tmp_path).read_text()
    assert json.loads(text) == record.to_dict()
    assert text.endswith("}\n")
    assert '"counts": [500, 120, 100, 50, 20, 5],' in text
    keys = [line.split('"')[1] for line in text.splitlines() if line.startswith('  "')]
    assert keys == sorted(keys) and len(keys) == len(dataclasses.fields(RunRecord))


def test_serialise_keeps_every_value():
    value = {"b": [[1, 2], {"x": None}, []], "a": {"é": 0.1, "e": {}}, "c": [0.1, "[1,\n 2]"]}
    assert json.loads(serialise(value)) == value


def test_a_single_record_stays_read_when_the_order_of_keys_changes(record):
    content = record.to_dict()
    shuffled = dict(reversed(content.items()))
    assert RunRecord.from_dict(shuffled) == record


def test_configs_become_plain_values():
    given = {
        "layer": torch.nn.Linear,
        "loss": torch.nn.functional.cross_entropy,
        "shape": (1, 2),
        "rate": np.float64(0.5),
        "count": torch.tensor(3),
        "dtype": torch.float16,
        "root": Path("data"),
        1: True,
    }
    assert plain(given) == {
        "layer": "torch.nn.modules.linear.Linear",
        "loss": "torch.nn.functional.cross_entropy",
        "shape": [1, 2],
        "rate": 0.5,
        "count": 3,
        "dtype": "torch.float16",
        "root": "data",
        "1": True,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), object()])
def test_values_that_json_cannot_hold_are_refused_by_name(value):
    with pytest.raises(LTBenchError, match=r"'config\.rates\[1\]'"):
        plain({"config": {"rates": [1.0, value]}})


def test_the_key_is_that_of_the_run():
    config = {"stage1": {"epochs": 200}, "method": {"tau": (1, 2)}}
    key = record_key(config, 0, "data")
    assert len(key) == 64
    same = {"method": {"tau": [1, 2]}, "stage1": {"epochs": 200}}
    assert record_key(same, 0, "data") == key
    others = [
        record_key(config, 1, "data"),
        record_key(config, 0, "other data"),
        record_key({**config, "stage1": {"epochs": 201}}, 0, "data"),
    ]
    assert len({key, *others}) == 4


def test_an_identical_call_finds_its_record(record, tmp_path):
    assert find_record(tmp_path, record.name, 3, record.key) is None
    path = write_record(record, tmp_path)
    assert find_record(tmp_path, record.name, 3, record.key) == (path, record)
    assert find_record(tmp_path, record.name, 4, record.key) is None
    assert find_record(tmp_path, record.name, 3, "another key") is None


def test_the_record_of_another_run_is_not_overwritten(record, tmp_path):
    path = write_record(record, tmp_path)
    before = path.read_bytes()
    other = dataclasses.replace(record, config={"stage1": {"epochs": 9}})
    with pytest.raises(LTBenchError, match="another run"):
        write_record(other, tmp_path)
    assert path.read_bytes() == before
    write_record(other, tmp_path, replace=True)
    assert read_record(path) == other
    again = dataclasses.replace(other, stage_seconds={"stage1": 9.0}, stage_parts=None)
    write_record(again, tmp_path)
    assert read_record(path) == again


def test_a_faulty_record_is_not_written(record, tmp_path):
    wrong = dataclasses.replace(record.scores, overall=record.scores.overall + 1)
    with pytest.raises(LTBenchError, match="new record of toy_lt/plain seed 3"):
        write_record(dataclasses.replace(record, scores=wrong), tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_external_records_may_lack_seed_and_stage1(record, tmp_path):
    external = dataclasses.replace(
        record, kind="external", name="toy_lt/mine", seed=None, stage1=None, config={}, method={}
    )
    path = write_record(external, tmp_path)
    assert path.name == "external.json"
    assert read_record(path) == external


def test_records_are_read_in_order_of_name_and_seed(record, tmp_path):
    for name, seed in (("b/x", 10), ("b/x", 9), ("a/y", 1)):
        write_record(dataclasses.replace(record, name=name, seed=seed), tmp_path)
    found = [(item.name, item.seed) for item in read_records(tmp_path)]
    assert found == [("a/y", 1), ("b/x", 9), ("b/x", 10)]


def test_two_files_for_one_run_are_refused(record, tmp_path):
    path = write_record(record, tmp_path)
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    with pytest.raises(LTBenchError, match=r"both hold the record of toy_lt/plain, seed 3"):
        read_records(tmp_path)


def test_a_missing_folder_is_refused_unless_allowed(tmp_path):
    with pytest.raises(LTBenchError, match="no folder of run records"):
        read_records(tmp_path / "none")
    assert read_records(tmp_path / "none", missing_ok=True) == []


@pytest.mark.parametrize("name", ["../up", "/root", "a//b", "", "a/..", "a b", ".hidden"])
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(LTBenchError, match="cannot name a record"):
        record_path("records", name, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "guessed"}, "field 'kind' must be one of measured, external"),
        ({"label": MISSING}, "field 'label' is missing"),
        ({"dataset__sizes__test": MISSING}, r"field 'dataset\.sizes\.test' is missing"),
        ({"scores__ece": MISSING}, r"field 'scores\.ece' is missing"),
        ({"stage1__epochs": MISSING}, r"field 'stage1\.epochs' is missing"),
        ({"epochs": 3}, "field 'epochs' is unknown"),
        ({"protocol__tau": 3}, r"field 'protocol\.tau' is unknown"),
        ({"dataset__sizes__dev": 3}, r"field 'dataset\.sizes\.dev' is unknown"),
        ({"seed": "0"}, "field 'seed' must be an integer or null, got '0'"),
        ({"seed": True}, "field 'seed' must be an integer or null, got True"),
        ({"seed": -1}, "field 'seed' must be 0 or more"),
        ({"seed": None}, "field 'seed' is null, which only an external record may have"),
        ({"stage1": None}, "field 'stage1' is null"),
        ({"config": []}, "field 'config' must be an object"),
        ({"name": "../x"}, "field 'name' must be"),
        ({"created": "yesterday"}, "field 'created' must be an ISO 8601 time"),
        ({"created": "2026-01-31T09:30:00"}, "field 'created' must be an ISO 8601 time with its"),
        ({"stage_seconds": {"stage1": -1}}, r"'stage_seconds\.stage1' must be seconds from 0"),
        ({"stage_seconds": {"stage1": 10**400}}, r"'stage_seconds\.stage1' must be seconds from 0"),
        ({"environment": {"threads": [1, 2]}}, r"'environment\.threads' must be a string, a number or null"),
        ({"dataset__counts": [10**30, 0, 0, 0, 0, 0]}, "'dataset.counts' must hold integers"),
        ({"stage_parts__stage1": {"data": -1}}, r"'stage_parts\.stage1\.data' must be seconds from 0"),
        ({"stage_parts__stage2": {"data": "1"}}, r"'stage_parts\.stage2\.data' must be seconds from 0"),
        (
            {"stage_parts__stage1": {"data": 1.2}},
            r"'stage_parts\.stage1' adds up to 1\.200 s, .* 1\.250 s",
        ),
        (
            {"stage_parts__stage2": {"data": 1.2}},
            r"'stage_parts\.stage2' adds up to 1\.200 s, .* 0\.750 s",
        ),
        ({"stage_parts__stage3": {}}, r"'stage_parts\.stage3' is unknown"),
        ({"stage1__trained_by": [3]}, r"'stage1\.trained_by' must hold objects of .*, got 3"),
        ({"stage1__trained_by": [{"environment": 3}]}, r"'stage1\.trained_by' must hold objects of"),
        ({"stage1__trained_by": [{"processes": [2]}]}, r"'stage1\.trained_by' must hold objects of"),
        ({"stage1__teachers": {"a1": 3}}, r"'stage1\.teachers\.a1' must be an object, got 3"),
        ({"stage1__teachers": {"a1": {}}}, r"'stage1\.teachers\.a1\.name' must be a string, got None"),
        ({"stage1__teachers": {"a1": {"name": "x"}}}, r"'stage1\.teachers\.a1\.seconds' must be seconds"),
        (
            {"stage1__teachers": {"a1": {"name": "x", "seconds": 1.5, "trained_by": 3}}},
            r"'stage1\.teachers\.a1\.trained_by' must be a list or null, got 3",
        ),
        (
            {
                "stage1__teachers": {
                    "a1": {"name": "x", "seconds": 1.5, "trained_by": [{"environment": {"cpu": []}}]}
                }
            },
            r"'stage1\.teachers\.a1\.trained_by' must hold objects of",
        ),
        ({"protocol__selection_split": "dev"}, r"'protocol\.selection_split' must be"),
        ({"dataset__num_classes": 7}, "has 6 entries for 7 classes"),
        ({"dataset__counts": [1, 2]}, "has 2 entries for 6 classes"),
        ({"dataset__counts": [795, 0, 0, 0, 0, "0"]}, "must hold integers"),
        ({"dataset__sizes__train": 4}, r"adds up to 795, 'dataset\.sizes\.train' is 4"),
        ({"dataset__sizes__test": 4}, r"adds up to 120, 'dataset\.sizes\.test' is 4"),
        ({"scores__overall": 99.0}, r"'scores\.overall' is 99\.0, but the per-class"),
        ({"scores__few": None}, r"'scores\.few' is None, but the per-class"),
        ({"scores__few": 12.25}, r"'scores\.few' is 12\.25, but the per-class"),
        ({"scores__convention": "paper"}, r"'scores\.m"),
        ({"scores__convention": "loose"}, "unknown shot-group convention 'loose'"),
        ({"scores__macro_f1": 101.0}, r"'scores\.macro_f1' must be a percentage"),
        ({"scores__per_class": [1.0]}, "has 1 entries for 6 classes"),
        ({"scores__per_class": [101.0] * 6}, r"'scores\.per_class\[0\]' must be a percentage"),
        ({"scores__per_class": [None] * 6}, r"'scores\.per_class\[0\]' is None with 20 test"),
        ({"scores__group_classes": {"many": 6}}, r"'scores\.group_classes' is"),
    ],
)
def test_each_fault_is_one_sentence_that_names_the_field(record, values, message):
    content = changed(record, **values)
    with pytest.raises(LTBenchError, match=message) as caught:
        RunRecord.from_dict(content, "the run record x.json")
    sentence = str(caught.value)
    assert sentence.startswith("the run record x.json cannot be used: ")
    assert sentence.endswith("; restore the file, or delete it and run again")
    assert "\n" not in sentence


def test_a_record_too_deep_to_be_read_is_refused(tmp_path):
    path = tmp_path / "seed_0.json"
    path.write_text("[" * 100_000)
    with pytest.raises(LTBenchError, match="it is not JSON, or was cut off"):
        read_record(path)


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_record_from_before_a_field_came_is_read(record, name):
    content = record.to_dict()
    parent, _, last = name.rpartition(".")
    (content[parent] if parent else content).pop(last, None)
    assert RunRecord.from_dict(content).to_dict() == content


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in OPTIONAL])
def test_no_field_may_be_missing(record, name):
    content = changed(record, **{name.replace(".", "__"): MISSING})
    if name == "schema_version":
        message = "schema_version is None, and this version of lt-bench reads 1"
    else:
        message = f"field {name!r} is missing"
    with pytest.raises(LTBenchError) as caught:
        RunRecord.from_dict(content)
    assert message in str(caught.value)


def test_a_json_file_that_is_no_record_is_not_called_a_damaged_one(tmp_path):
    path = tmp_path / "stage1" / "abc" / "stage1.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"identity": "abc"}')
    with pytest.raises(LTBenchError, match=r"stage1\.json is no run record; name a folder") as caught:
        read_records(tmp_path)
    assert "delete" not in str(caught.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FIELDS)), value=JSON_VALUES, place=st.integers(0, 5))
def test_no_content_ends_in_anything_but_a_record_or_the_sentence(record, name, value, place):
    """Any JSON value in any field, or in any place of a list."""
    contents = [changed(record, **{name.replace(".", "__"): value})]
    for name in ("dataset__counts", "scores__per_class", "scores__tested"):
        contents.append(changed(record, **{name: MISSING}))
        parent, last = name.split("__")
        entries = list(record.to_dict()[parent][last])
        entries[place] = value
        contents[-1][parent][last] = entries
    for content in contents:
        try:
            found = RunRecord.from_dict(content)
        except LTBenchError as error:
            assert "cannot be used: " in str(error)
        else:
            assert found.to_dict() == content


@pytest.mark.parametrize("size", [0, 1, 200, 900])
def test_a_truncated_file_is_refused(record, tmp_path, size):
    path = write_record(record, tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    message = "it is empty" if size == 0 else r"it is not JSON, or was cut off \(line \d+\)"
    with pytest.raises(LTBenchError, match=message):
        read_record(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "not a JSON object"),
        (b'{"schema_version": 2}', "its schema_version is 2, and this version of lt-bench reads 1"),
        (b'{"schema_version": NaN}', "it holds NaN"),
        (b'{"schema_version": -Infinity}', "it holds -Infinity"),
        (b'{"schema_version": 1, "config": {"lr": 1e999}}', "it holds 1e999"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_files_that_are_no_records_are_refused(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(LTBenchError, match=message):
        read_record(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(LTBenchError, match="cannot be read: No such file"):
        read_record(tmp_path / "x.json")


def test_scores_under_another_convention_come_from_the_record_alone(record):
    inclusive = record.scores_under("inclusive")
    assert inclusive.group_classes == {"many": 3, "medium": 1, "few": 2}
    assert inclusive.many == pytest.approx(sum(record.scores.per_class[:3]) / 3)
    assert inclusive.overall == record.scores.overall
