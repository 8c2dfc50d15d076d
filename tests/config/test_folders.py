"""Folders of configs that are another folder's with something different."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lt_bench.config import load_experiment
from lt_bench.config.folders import find_config, list_configs
from lt_bench.data.profile import exponential_counts
from lt_bench.engine.stage1 import build_representation
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.registry import METHODS
from lt_bench.task import Task


@pytest.fixture()
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./configs with a folder of two configs and one derived of it."""
    root = tmp_path / "configs"
    base = find_config("digits_lt/plain").path.resolve()
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "one.py").write_text(f"_base_ = [{str(base)!r}]\nmethod = dict(label='One')\n")
    (root / "mine" / "two.py").write_text(
        f"_base_ = [{str(base)!r}]\nmethod = dict(label='Two', representation=dict(type='focal'))\n"
    )
    (root / "mine_steep").mkdir()
    (root / "mine_steep" / "_folder.py").write_text(
        "configs_of = 'mine'\ndataset = dict(imbalance_factor=50)\n"
    )
    monkeypatch.chdir(tmp_path)
    return root


def test_a_derived_folder_has_every_config_of_the_other(configs: Path) -> None:
    assert {"mine/one", "mine/two", "mine_steep/one", "mine_steep/two"} <= set(list_configs())
    flat, steep = load_experiment("mine/two"), load_experiment("mine_steep/two")
    assert steep.name == "mine_steep/two" and steep.label == "Two"
    assert steep.config["dataset"] == {**flat.config["dataset"], "imbalance_factor": 50}
    assert {**steep.config, "dataset": None} == {**flat.config, "dataset": None}
    (configs / "mine" / "three.py").write_text("_base_ = ['one.py']\n")
    assert load_experiment("configs/mine_steep/three.py").config["dataset"]["imbalance_factor"] == 50


def test_options_and_composition_apply_to_it(configs: Path) -> None:
    found = load_experiment("mine_steep/one", {"dataset.imbalance_factor": 7})
    assert found.config["dataset"]["imbalance_factor"] == 7
    (configs / "mine" / "crt.py").write_text(
        "_base_ = ['one.py']\nmethod = dict(label='cRT', classifier=dict(type='crt'))\n"
    )
    both = load_experiment("mine_steep/two+crt")
    assert both.name == "mine_steep/two+crt" and both.label == "Two + cRT"
    assert both.config["dataset"]["imbalance_factor"] == 50


def test_a_config_of_its_own_stands_before_the_other_s(configs: Path) -> None:
    (configs / "mine_steep" / "one.py").write_text(
        "_base_ = ['../mine/one.py']\ndataset = dict(imbalance_factor=3)\n"
    )
    assert load_experiment("mine_steep/one").config["dataset"]["imbalance_factor"] == 3
    assert load_experiment("mine_steep/two").config["dataset"]["imbalance_factor"] == 50
    (configs / "mine_steep" / "four.py").write_text("_base_ = ['one.py']\n")
    assert "mine_steep/four" in list_configs()


def test_a_config_is_named_by_the_folder_it_lies_in(configs: Path) -> None:
    (configs / "lone.py").write_text("_base_ = ['mine/one.py']\n")
    assert load_experiment("lone").name == load_experiment("configs/lone.py").name == "configs/lone"
    assert load_experiment("configs/mine/two.py").name == load_experiment("mine/two").name == "mine/two"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("configs_of = 'my'\n", "sets configs_of to 'my', which is no folder beside its own"),
        ("dataset = dict(imbalance_factor=50)\n", "sets configs_of to None"),
        ("configs_of = dict(\n", r"_folder\.py does not read: SyntaxError"),
    ],
)
def test_a_broken_folder_is_told(configs: Path, content: str, told: str) -> None:
    (configs / "mine_steep" / "_folder.py").write_text(content)
    with pytest.raises(LTBenchError, match=told):
        load_experiment("mine_steep/one")


def test_an_unknown_name_is_answered_with_near_ones(configs: Path) -> None:
    with pytest.raises(LTBenchError, match="did you mean 'mine_steep/two'"):
        load_experiment("mine_steep/too")


@pytest.mark.parametrize(
    ("folder", "kind", "factor"),
    [
        ("cifar100_lt_if50", "cifar100_lt", 50),
        ("cifar100_lt_if10", "cifar100_lt", 10),
        ("cifar10_lt", "cifar10_lt", 100),
        ("cifar10_lt_if50", "cifar10_lt", 50),
        ("cifar10_lt_if10", "cifar10_lt", 10),
    ],
)
def test_those_that_are_shipped(folder: str, kind: str, factor: int) -> None:
    dataset = load_experiment(f"{folder}/crt_r32").config["dataset"]
    assert (dataset["type"], dataset["imbalance_factor"]) == (kind, factor)
    here = [name.partition("/")[2] for name in list_configs() if name.startswith(f"{folder}/")]
    there = [name.partition("/")[2] for name in list_configs() if name.startswith("cifar100_lt/")]
    assert here == there and len(here) > 30


@pytest.mark.parametrize(
    ("folder", "classes"),
    [
        ("cifar100_lt_if50", 100),
        ("cifar100_lt_if10", 100),
        ("cifar10_lt", 10),
        ("cifar10_lt_if50", 10),
        ("cifar10_lt_if10", 10),
    ],
)
def test_every_config_of_a_derived_folder_means_something_there(folder: str, classes: int) -> None:
    """Its methods take the folder's class counts, but for one that the board leaves out."""
    for name in (name for name in list_configs() if name.startswith(f"{folder}/")):
        config = load_experiment(name).config
        factor = config["dataset"].get("imbalance_factor", 100)
        counts = torch.tensor(exponential_counts(50_000 // classes, factor, classes))
        names = tuple(map(str, range(classes)))
        task = Task(folder, names, counts, "strict", shot_groups(counts, "strict"))
        build_representation(config, task)
        if name == "cifar10_lt_if10/fslwf_r32":
            with pytest.raises(LTBenchError, match="has none under the convention"):
                METHODS.build({**config["method"]["classifier"], "task": task})
            continue
        METHODS.build({**config["method"]["classifier"], "task": task})


@pytest.mark.parametrize(
    "folder", ["digits_lt", "fashion_mnist_lt", "cifar100_lt", "imagenet_lt", "places_lt"]
)
def test_recipes_of_one_name_are_one_recipe(folder: str) -> None:
    """A board states the recipe of a row's stage 1 by its name."""
    seen: dict[str, object] = {}
    for name in (name for name in list_configs() if name.startswith(f"{folder}/")):
        stage1 = load_experiment(name).config["stage1"]
        assert seen.setdefault(stage1["recipe"]["name"], stage1) == stage1, name
    assert seen
