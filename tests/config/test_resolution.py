"""Configs: found, merged, checked, identified."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from lt_bench.config import load_dataset, load_experiment, portable_dataset, resolve
from lt_bench.config.folders import find_config, list_configs
from lt_bench.engine.identity import stage1_identity
from lt_bench.errors import LTBenchError
from lt_bench.leaderboard.spec import list_specs, load_spec
from lt_bench.method import Prediction
from lt_bench.registry import METHODS

CONFIGS = list_configs()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_resolves(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.name == name
    assert experiment.config["method"]["label"]
    again = resolve(copy.deepcopy(experiment.config))
    assert again == experiment.config, "a resolved config resolves to itself"


def test_labels_are_those_of_the_boards() -> None:
    boards = ("digits_lt", "cifar100_lt", "cifar10_lt", "fashion_mnist_lt")
    for board in (*boards, "digits_lt_grid", "cifar100_lt_grid"):
        assert board in list_specs()
        for section in load_spec(board).sections:
            for row in section.rows:
                if row.config is not None:
                    assert load_experiment(row.config).label == row.label


def test_a_config_is_found_by_name_path_and_file(tmp_path: Path, monkeypatch) -> None:
    found = find_config("digits_lt/crt").path.resolve()
    assert find_config("configs/digits_lt/crt.py").path.samefile(found)
    monkeypatch.chdir(tmp_path)
    assert find_config("digits_lt/crt").path.samefile(found)
    assert find_config(str(found)).path == found


def test_a_config_that_does_not_read(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("method = dict(\n")
    with pytest.raises(LTBenchError, match=r"broken\.py does not read: SyntaxError"):
        load_experiment(str(path))
    path.write_text("method = object()\n")
    with pytest.raises(LTBenchError, match="a config holds numbers, strings, lists and dicts"):
        load_experiment(str(path))
    path.write_text("stage1 = dict(epochs=1)\n")
    with pytest.raises(LTBenchError, match="the config lacks 'dataset'"):
        load_experiment(str(path))
    path.write_text("custom_imports = ['no_such_module_anywhere']\n")
    with pytest.raises(LTBenchError, match="'no_such_module_anywhere', which cannot be imported"):
        load_experiment(str(path))


def beside(folder: Path, module: str, registers: str) -> str:
    """A config in ``folder`` that imports the module beside it, which registers a method of that name."""
    folder.mkdir(exist_ok=True)
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        "from lt_bench.method import Representation\nfrom lt_bench.registry import METHODS\n\n\n"
        f"@METHODS.register_module({registers!r})\nclass Own(Representation):\n    pass\n"
    )
    base = str(find_config("digits_lt/plain").path.resolve())
    (folder / "own.py").write_text(
        f"_base_ = [{base!r}]\ncustom_imports = [{module!r}]\n"
        f"method = dict(representation=dict(type={registers!r}))\n"
    )
    return str(folder / "own.py")


def test_a_module_beside_a_config_is_the_one_that_is_imported(tmp_path: Path) -> None:
    one = beside(tmp_path / "one", "copied_method", "own_copied")
    other = beside(tmp_path / "other", "copied_method", "own_copied")
    assert load_experiment(one) == load_experiment(one)
    with pytest.raises(LTBenchError, match=r"<module .*/one/copied_method\.py.* and not .*/other"):
        load_experiment(other)
    with pytest.raises(LTBenchError, match="'random' is <module 'random'.*another name"):
        load_experiment(beside(tmp_path / "random", "random", "own_random"))


@pytest.mark.parametrize("package", [True, False])
def test_own_methods_do_not_stand_for_the_project_s(tmp_path: Path, package: bool) -> None:
    path = beside(tmp_path, "methods.mine", "own_in_methods")
    if package:
        (tmp_path / "methods" / "__init__.py").touch()
    with pytest.raises(LTBenchError, match="'methods' is <module 'methods'.*another name"):
        load_experiment(path)


@pytest.mark.parametrize("package", [True, False])
def test_own_modules_in_a_folder_beside_a_config(tmp_path: Path, package: bool) -> None:
    name = f"own_folder_{package}"
    path = beside(tmp_path / "here", f"{name}.mine", name)
    if package:
        (tmp_path / "here" / name / "__init__.py").touch()
    assert load_experiment(path).config["method"]["representation"]["type"] == name
    assert load_experiment(path) == load_experiment(path)
    with pytest.raises(LTBenchError, match="another name"):
        load_experiment(beside(tmp_path / "there", f"{name}.mine", name))


def test_what_decides_the_weights_decides_the_identity() -> None:
    base = load_experiment("digits_lt/crt").config
    one = stage1_identity(base, "data", 0)
    assert one == stage1_identity(load_experiment("digits_lt/ncm").config, "data", 0)
    assert len({one, stage1_identity(base, "other", 0), stage1_identity(base, "data", 1)}) == 3
    for key, value in (
        ("stage1.optimizer.lr", 0.3),
        ("stage1.epochs", 3),
        ("stage1.numerics.precision", "bf16"),
        ("model.backbone.width", 8),
        ("train_transforms", []),
    ):
        assert stage1_identity(load_experiment("digits_lt/crt", {key: value}).config, "data", 0) != one
    for key, value in (
        ("snapshots.keep", 3),
        ("runtime.workers", 1),
        ("stage1.recipe.name", "other"),
        ("convention", "paper"),
        ("classifier_recipe.lr", 1.0),
    ):
        assert stage1_identity(load_experiment("digits_lt/crt", {key: value}).config, "data", 0) == one


def test_a_method_s_own_recipe_wins() -> None:
    lws = load_experiment("digits_lt/lws").config["method"]["classifier"]["recipe"]
    crt = load_experiment("digits_lt/crt").config["method"]["classifier"]["recipe"]
    assert (lws.pop("epochs"), crt.pop("epochs")) == (5, 10) and lws == crt


def test_dataset_configs() -> None:
    assert load_dataset("cifar100_lt_if50", {})["dataset"]["imbalance_factor"] == 50
    assert load_dataset("cifar10_lt_if10", {})["dataset"]["type"] == "cifar10_lt"
    for base in (find_config("digits_lt/crt").path.parent.parent / "_base_" / "datasets").glob("*.py"):
        assert load_dataset(base.stem, {})["dataset"]
    for key in ("imbalance_factor", "datset.imbalance_factor"):
        with pytest.raises(LTBenchError, match=f"unknown key '{key[:6]}.*' in the dataset config"):
            load_dataset("cifar100_lt", {key: 10})
    with pytest.raises(LTBenchError, match="did you mean 'digits_lt'"):
        load_dataset("digit_lt", {})
    with pytest.raises(LTBenchError, match="unknown key dataset.factor"):
        load_dataset("digits_lt", {"dataset.factor": 2})


def test_a_base_s_keys_are_left_out_where_that_is_said() -> None:
    own = {"type": "focal"}
    with pytest.raises(LTBenchError, match=r"max_margin.*_delete_=True in method\.representation leaves out"):
        load_experiment("digits_lt/ldam", {"method.representation": own})
    kept = load_experiment("digits_lt/ldam", {"method.representation": {"_delete_": True, **own}}).config
    assert kept["method"]["representation"] == own


def test_an_annotation_in_words() -> None:
    class Worded(Prediction):
        def __init__(self, task, tau=1.0):
            super().__init__(task)

        def __call__(self, logits):
            return logits

    # As a file without "from __future__ import annotations" writes it: tau: "from 0 to 2" = 1.0.
    Worded.__init__.__annotations__["tau"] = "from 0 to 2"
    METHODS.register_module("annotated_in_words", module=Worded)
    given = {"method.prediction.type": "annotated_in_words", "method.prediction.tau": 2}
    assert load_experiment("digits_lt/plain", given).config["method"]["prediction"]["tau"] == 2
    with pytest.raises(LTBenchError, match=r"unknown key method\.prediction\.tua"):
        load_experiment("digits_lt/plain", {**given, "method.prediction.tua": 2})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar100_lt", {"dataset.root": 20241012}),
        ("cifar100_lt", {"dataset.root": True}),
        ("digits_lt", {"dataset": {"_delete_": True, "type": "array_lt", "path": 7}}),
    ],
)
def test_a_path_that_is_none_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(LTBenchError, match=r"^dataset\.\w+ is a string or a path .*, got (20241012|True|7)$"):
        load_dataset(name, options)


def test_a_recorded_dataset_does_not_say_where_it_lies() -> None:
    given = dict(type="imagenet_lt", root="/a/b", lists="/a/c", undecodable="skip", train="/a/d/train.txt")
    assert portable_dataset(given) == dict(type="imagenet_lt", undecodable="skip", train="train.txt")
    assert portable_dataset(dict(type="inaturalist2018", annotations="/a")) == dict(type="inaturalist2018")
