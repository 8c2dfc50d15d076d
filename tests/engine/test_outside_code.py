"""A part from outside counts by the content of its file; those of this project add nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lt_bench.config import Experiment, load_experiment
from lt_bench.config.folders import find_config
from lt_bench.engine.identity import stage1_identity
from lt_bench.engine.outside_code import code_of_run, code_of_stage1
from lt_bench.engine.stage1 import follower_name
from lt_bench.errors import LTBenchError
from lt_bench.method import Prediction
from lt_bench.registry import DATA_SAMPLERS, METHODS, MODELS, TRANSFORMS
from lt_bench.run.jobs import recorded_config
from tests.short import SHORT

OWN = """
import torch.nn.functional as F
from mmengine.registry import MODELS

from lt_bench.data.batch_transforms import BatchNormalize
from lt_bench.data.samplers import InstanceSampler
from lt_bench.method import Representation
from lt_bench.models.small_convnet import SmallConvNet
from lt_bench.registry import DATA_SAMPLERS, METHODS, TRANSFORMS
from methods.breadcrumb import Breadcrumb


@METHODS.register_module("outside_loss")
class Loss(Representation):
    def criterion(self, logits, labels):
        return F.cross_entropy(logits, labels, label_smoothing=0.1)


@MODELS.register_module("outside_net")
class Net(SmallConvNet):
    pass


@DATA_SAMPLERS.register_module("outside_order")
class Order(InstanceSampler):
    pass


@TRANSFORMS.register_module("outside_scale")
class Scale(BatchNormalize):
    pass


@METHODS.register_module("outside_follower")
class Follower(Breadcrumb):
    pass
"""
NAMES = ("outside_loss", "outside_net", "outside_order", "outside_scale", "outside_follower")
SCALE = {"type": "outside_scale", "mean": [77.8], "std": [95.9]}


@pytest.fixture()
def own(tmp_path: Path) -> Iterator[Callable[..., Experiment]]:
    """The config beside an own file of that text, as a fresh process reads it."""

    def forget() -> None:
        sys.modules.pop("parts_from_outside", None)
        for registry in (METHODS, MODELS.parent, DATA_SAMPLERS, TRANSFORMS):
            assert registry is not None
            for name in NAMES:
                registry.module_dict.pop(name, None)

    def load(text: str = OWN, stem: str = "plain", **options: Any) -> Experiment:
        forget()
        base = str(find_config(f"digits_lt/{stem}").path.resolve())
        (tmp_path / "parts_from_outside.py").write_text(text)
        (tmp_path / "own.py").write_text(f"_base_ = [{base!r}]\ncustom_imports = ['parts_from_outside']\n")
        return load_experiment(str(tmp_path / "own.py"), {**SHORT, **options})

    yield load
    forget()


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"method.representation": {"_delete_": True, "type": "outside_loss"}}, ["method outside_loss"]),
        (
            {"method.representation": {"_delete_": True, "type": "parts_from_outside.Loss"}},
            ["method parts_from_outside.Loss"],
        ),
        (
            {"method.representation": {"_delete_": True, "type": "lt_bench.outside_loss"}},
            ["method lt_bench.outside_loss"],
        ),
        ({"model.backbone.type": "outside_net"}, ["model outside_net"]),
        ({"model.backbone.type": "mmengine.outside_net"}, ["model mmengine.outside_net"]),
        ({"method.representation.sampler": {"type": "outside_order"}}, ["sampler outside_order"]),
        (
            {
                "method.representation.sampler": {
                    "type": "deferred",
                    "fraction": 0.5,
                    "first": {"type": "outside_order"},
                    "then": {"type": "class_balanced"},
                }
            },
            ["sampler outside_order"],
        ),
        ({"train_transforms": [SCALE]}, ["transform outside_scale"]),
        ({}, []),
        ({"test_transforms": [SCALE]}, []),
    ],
)
def test_an_edited_part_is_another_stage_1(own: Callable, options: dict[str, Any], kinds: list[str]) -> None:
    def identity(text: str) -> str:
        config = own(text, **options).config
        assert sorted(code_of_stage1(config)) == kinds
        return stage1_identity(config, "data", 0)

    first = identity(OWN)
    assert identity(OWN) == first
    assert (identity(OWN + "# edited\n") != first) == bool(kinds)


def test_transforms_of_evaluation_count_where_stage_1_or_snapshots_are_made_through_them(
    own: Callable, launch: Callable
) -> None:
    scaled = {"test_transforms": [SCALE]}
    assert sorted(code_of_stage1(own(stem="lfme", **scaled).config)) == ["transform outside_scale"]
    weak = {"method.representation.sampler": {"type": "square_root"}, **scaled}
    launch(own(stem="breadcrumb_weak", **weak))
    with pytest.raises(LTBenchError, match="took its snapshots with code"):
        launch(own(OWN + "# edited\n", "breadcrumb_weak", **weak), replace=True)


def test_a_file_counts_as_it_was_when_it_was_first_looked_at(own: Callable, tmp_path: Path) -> None:
    config = own(**{"model.backbone.type": "outside_net"}).config
    before = code_of_stage1(config)
    (tmp_path / "parts_from_outside.py").write_text(OWN + "# edited while it trains\n")
    assert code_of_stage1(config) == before


def test_an_edited_method_is_another_run_of_another_stage_1(
    own: Callable, launch: Callable, tmp_path: Path
) -> None:
    given = {"method.representation": {"_delete_": True, "type": "outside_loss"}}
    ((path, first),) = launch(own(**given))
    assert list(first.config["code"]) == ["method outside_loss"]
    assert launch(own(**given)) == [(path, first)]
    edited = OWN.replace("label_smoothing=0.1", "label_smoothing=0.5")
    with pytest.raises(LTBenchError, match="another run of that name .*other code of your own"):
        launch(own(edited, **given))
    ((_, second),) = launch(own(edited, **given), replace=True)
    assert second.key != first.key and second.scores != first.scores
    assert len(list(tmp_path.glob("here/work/stage1/*/stage1.json"))) == 2


def test_an_edited_classifier_is_fitted_anew_on_the_same_stage_1(
    own: Callable, launch: Callable, tmp_path: Path
) -> None:
    given = {"method.classifier.type": "outside_follower", "snapshots.keep": "all"}
    before = own(stem="breadcrumb_strong", **given)
    launch(before)
    name = follower_name(before.config["method"]["classifier"])
    assert json.loads(name)["code"]
    after = own(OWN + "# edited\n", "breadcrumb_strong", **given)
    assert follower_name(after.config["method"]["classifier"]) != name
    assert recorded_config(after)["code"] != json.loads(name)["code"]
    launch(after, replace=True)
    assert len(list(tmp_path.glob("here/work/stage1/*/stage1.json"))) == 1


def test_this_project_s_parts_add_nothing() -> None:
    for name in ("digits_lt/plain", "digits_lt/breadcrumb_strong", "imagenet_lt/crt_r10", "digits_lt/ce_drw"):
        experiment = load_experiment(name)
        assert code_of_run(experiment.config) == {} and "code" not in recorded_config(experiment)
        classifier = experiment.config["method"]["classifier"]
        assert json.loads(follower_name(classifier)) == classifier
    assert stage1_identity(load_experiment("digits_lt/plain").config, "data", 0) == "8544f4b77c7bcb64"


def test_a_part_without_a_file_is_known_by_its_name() -> None:
    """As in a notebook."""
    typed = type("Typed", (Prediction,), {"__module__": "__main__", "__call__": lambda self, logits: logits})
    METHODS.register_module("typed_in_a_notebook", module=typed)
    main, file = sys.modules["__main__"], getattr(sys.modules["__main__"], "__file__", None)
    del main.__file__
    try:
        given = {"method.prediction.type": "typed_in_a_notebook"}
        assert code_of_run(load_experiment("digits_lt/plain", given).config) == {}
    finally:
        main.__file__ = file
        METHODS.module_dict.pop("typed_in_a_notebook")
