"""One suite for all methods: each builds, trains, resumes, repeats and writes a valid record.

It goes over every config of digits_lt and over every registered method that no config uses, so that a
method registered tomorrow is in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lt_bench.config import Experiment, load_experiment, resolve
from lt_bench.engine.checkpoints import latest_checkpoint
from lt_bench.engine.loop import StageOneLoop
from lt_bench.evaluation.record import read_record
from lt_bench.registry import METHODS

SEAMS = ("representation", "classifier", "prediction")
STEMS = sorted(path.stem for path in Path(__file__).parents[2].glob("configs/digits_lt/*.py"))
TWO_EPOCHS: dict[str, Any] = {
    "stage1.epochs": 2,
    "runtime.checkpoint_interval": 1,
    "classifier_recipe.epochs": 2,
}
# Methods whose own parameters make them long, or that need more than two epochs.
SHORTER: dict[str, dict[str, Any]] = {
    "breadcrumb": {"n_b": 10, "length": 2},
    "fslwf_generator": {"episodes": 5, "epochs": 2},
    "oltr": {"epochs": 2},
}


class Killed(Exception):
    """Stands for the end of the process."""


def shortened(stem: str) -> Experiment:
    kind = load_experiment(f"digits_lt/{stem}").config["method"]["classifier"]["type"]
    own = {f"method.classifier.{key}": value for key, value in SHORTER.get(kind, {}).items()}
    return load_experiment(f"digits_lt/{stem}", {**TWO_EPOCHS, **own})


def used_by_configs() -> set[str]:
    methods = [load_experiment(f"digits_lt/{stem}").config["method"] for stem in STEMS]
    return {method[seam]["type"] for method in methods for seam in SEAMS}


def state(folder: Path) -> list[dict[str, Any]]:
    paths = [latest_checkpoint(stage) for stage in sorted((folder / "work" / "stage1").iterdir())]
    return [torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in paths if path]


def check(experiment: Experiment, launch: Callable, folder: Path) -> None:
    whole = launch(experiment, folder="whole")
    ((path, record),) = whole.records
    assert read_record(path) == record
    assert all(value is None or math.isfinite(value) for value in record.scores.per_class)
    # Better than nothing learned: ten classes, two epochs.
    assert record.scores.ece is not None and record.scores.overall > 0
    original = StageOneLoop.run_epoch

    def stopping(self: StageOneLoop) -> None:
        if self.epoch == 1:
            raise Killed
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageOneLoop, "run_epoch", stopping)
        with pytest.raises(Killed):
            launch(experiment, folder="cut")
    resumed = launch(experiment, folder="cut", resume=True)
    one, two = state(folder / "whole"), state(folder / "cut")
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert resumed.records[0][1].scores == record.scores
    assert resumed.records[0][1].selected == record.selected


@pytest.mark.parametrize("stem", STEMS)
def test_every_config(stem: str, launch: Callable, tmp_path: Path) -> None:
    check(shortened(stem), launch, tmp_path)


def test_every_method_without_a_config(launch: Callable, tmp_path: Path) -> None:
    base = load_experiment("digits_lt/plain", TWO_EPOCHS)
    needs_arguments = {"lfme_expert"}  # trained as a part of lfme
    for name in sorted(set(METHODS.names()) - used_by_configs() - needs_arguments):
        config = {**base.config, "method": {METHODS.get(name).seam: {"type": name}}}
        check(Experiment(f"digits_lt/{name}", resolve(config)), launch, tmp_path / name)
