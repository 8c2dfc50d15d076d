"""The shipped specifications are sound, and a faulty one is refused with its reason."""

from __future__ import annotations

import copy
import json
import re

import pytest

from lt_bench.config.folders import list_configs
from lt_bench.errors import LTBenchError
from lt_bench.leaderboard.spec import list_specs, load_spec, parse_spec

DATASET_BOARDS = ["cifar100_lt", "cifar10_lt", "digits_lt", "fashion_mnist_lt"]
GRIDS = ["cifar100_lt_grid", "digits_lt_grid"]
SHIFTED = ["cifar100_lt_shifts", "digits_lt_shifts"]
METHODS = [
    "plain",
    "crt",
    "lws",
    "tau_norm",
    "ncm",
    "back_tracking",
    "class_specific",
    "breadcrumb_weak",
    "breadcrumb_strong",
    "breadcrumb_var",
    "breadcrumb_agn",
]
SMALL = {
    "name": "own",
    "title": "Own",
    "metrics": ["overall"],
    "sections": [
        {
            "title": "Mine",
            "dataset": "mine",
            "convention": "paper",
            "rows": [
                {
                    "label": "A",
                    "config": "mine/a",
                    "published": {"overall": 1},
                    "source": "B",
                    "evidence": "read at source",
                }
            ],
        }
    ],
}


def published(name, section=0):
    rows = load_spec(name).sections[section].rows
    return {row.label: list(row.published.values.values()) for row in rows}


def test_what_is_shipped():
    assert list_specs() == sorted([*DATASET_BOARDS, *GRIDS, *SHIFTED, "table1", "table2", "table3", "table4"])
    for name in list_specs():
        assert load_spec(name).name == name


# There is no few- and no medium-shot class whose weights could be generated.
MEANINGLESS = {"cifar10_lt_if10/fslwf_r32"}


@pytest.mark.parametrize("name", DATASET_BOARDS)
def test_a_dataset_board_lists_every_method_in_order(name):
    spec = load_spec(name)
    suffix = "_r32" if name.startswith("cifar") else ""
    for section in spec.sections:
        folder = section.reference.partition("/")[0]
        assert folder.startswith(name) and section.dataset == name and section.cost_unit.startswith(folder)
        configs = [row.config for row in section.rows if row.config is not None]
        named = [f"{folder}/{method}{suffix}" for method in METHODS]
        named = [config for config in named if config not in MEANINGLESS]
        assert configs[: len(named)] == named
        known = [config for config in list_configs() if config.startswith(f"{folder}/")]
        assert sorted(configs) == [config for config in known if config not in MEANINGLESS]
    folders = {config.partition("/")[0] for config in list_configs()}
    sections = [section.reference.partition("/")[0] for section in spec.sections]
    assert sorted(sections) == sorted(f for f in folders if f == name or f.startswith(f"{name}_if"))
    assert spec.open


def test_the_grids_are_of_the_same_pairs():
    digits, cifar = (load_spec(name) for name in ("digits_lt_grid", "cifar100_lt_grid"))
    renamed = [
        [row.config.replace("cifar100_lt", "digits_lt").replace("_r32", "") for row in section.rows]
        for section in cifar.sections
    ]
    assert renamed == [[row.config for row in section.rows] for section in digits.sections]
    for spec in (digits, cifar):
        assert not spec.open and spec.name in load_spec(spec.name.removesuffix("_grid")).elsewhere
        for section in spec.sections:
            assert section.reference == section.rows[0].config and section.title == section.rows[0].label


def test_the_figures_of_the_paper():
    assert published("table1")["Decoupling (cRT)"] == [41.4, 51.8, 38.8, 21.5]
    assert published("table1")["Strong Breadcrumb"] == [44.0, 53.7, 41.0, 26.4]
    assert published("table1")["Breadcrumb (agn.)"] == [38.5, 47.3, 35.6, 24.0]
    assert published("table2")["OLTR"] == [35.6, 43.2, 35.1, 18.5]
    assert published("table2", 1)["Plain Model"] == [27.2, 45.9, 22.4, 0.36]
    assert published("table3")["Decoupling (τ-norm)"] == [49.4, 59.1, 46.9, 30.7]
    assert published("table4")["Breadcrumb"] == [70.3]
    sizes = {name: [len(part.rows) for part in load_spec(name).sections] for name in list_specs()}
    assert sizes["table1"] == [8] and sizes["table2"] == [9, 9]
    assert sizes["table3"] == [6] and sizes["table4"] == [6]


def test_the_figures_of_rides_model_zoo_are_of_routed_experts():
    """The legend of its table: without distillation, with EA."""
    rows = {row.config: row.published for row in load_spec("cifar100_lt").sections[0].rows}
    assert rows["cifar100_lt/ride_r32"] is None
    routed = rows["cifar100_lt/ride_routing_r32"].values
    assert routed == {"overall": 48.6, "many": 67.0, "medium": 49.9, "few": 25.7}


def test_configs_of_the_paper_tables_carry_dataset_and_backbone():
    expected = {
        "table1": [r"imagenet_lt/\w+_r10"],
        "table2": [r"imagenet_lt/\w+_r10", r"places_lt/\w+_r152"],
        "table3": [r"imagenet_lt/\w+_rx50"],
        "table4": [r"inaturalist2018/\w+_r50"],
    }
    for name, patterns in expected.items():
        sections = load_spec(name).sections
        for section, pattern in zip(sections, patterns, strict=True):
            assert all(re.fullmatch(pattern, row.config) for row in section.rows)


def test_own_specification_by_path(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(SMALL))
    spec = load_spec(path)
    assert spec.sections[0].rows[0].published.values == {"overall": 1.0}
    assert not spec.open


def test_an_unknown_table_offers_near_names():
    with pytest.raises(LTBenchError, match="did you mean 'table1'"):
        load_spec("tabel1")


def test_unreadable_specifications_are_refused(tmp_path):
    with pytest.raises(LTBenchError, match="cannot be read: No such file"):
        load_spec(tmp_path / "none.json")
    path = tmp_path / "x.json"
    path.write_text('{"name": ')
    with pytest.raises(LTBenchError, match="is not JSON"):
        load_spec(path)
    for text in ("[" * 100_000, '{"name": ' + "9" * 5001 + "}"):
        path.write_text(text)
        with pytest.raises(LTBenchError, match="is no JSON to be read"):
            load_spec(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LTBenchError, match="not UTF-8"):
        load_spec(path)
    path.write_text("{}")
    with pytest.raises(LTBenchError, match=r"x\.json cannot be used: the table lacks 'name'"):
        load_spec(path)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["name"], "a/b", "plain file name"),
        (["metrics"], ["overal"], "unknown metric 'overal': did you mean 'overall'"),
        (["metrics"], [], "at least one of its 'metrics'"),
        (["metrics"], [["overall"]], "unknown metric"),
        (["colour"], 1, "unknown key 'colour'"),
        (["elsewhere"], ["tabel1"], "elsewhere: unknown table 'tabel1': did you mean 'table1'"),
        (["sections", 0], 3, "a section must be a JSON object"),
        (["sections", 0, "convention"], "loose", "unknown shot-group convention 'loose'"),
        (["sections", 0, "class_counts"], {"many": 1}, "class_counts needs"),
        (["sections", 0, "rows"], {}, "'rows' is of the wrong type"),
        (["sections", 0, "rows", 0, "config"], 3, "'config' is of the wrong type"),
        (["sections", 0, "rows", 0, "published"], {"overall": 101}, "must be a percentage"),
        (["sections", 0, "rows", 0, "published"], {"overall": True}, "must be a percentage"),
        (["sections", 0, "rows", 0, "published"], {"top1": 1}, "unknown metric 'top1'"),
        (["sections", 0, "rows", 0, "source"], "", "published figures need their 'source'"),
    ],
)
def test_faults_are_named(where, value, message):
    content = copy.deepcopy(SMALL)
    holder = content
    for part in where[:-1]:
        holder = holder[part]
    holder[where[-1]] = value
    with pytest.raises(LTBenchError, match=message):
        parse_spec(content)
