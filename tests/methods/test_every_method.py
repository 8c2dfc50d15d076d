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
from lt_bench.engine.checkpoints import latest_checkpoint, saved_epochs
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


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]


def stages(folder: Path) -> list[Path]:
    return sorted((folder / "work" / "stage1").iterdir())


def state(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [weights(path) for path in map(latest_checkpoint, stages(folder)) if path]


def learns_to_the_end(stage: Path) -> bool:
    """Whether the last epoch moved any matrix of weights; scores of two epochs may be near chance."""
    *_, (_, before), (_, last) = sorted(saved_epochs(stage).items())
    one, two = weights(before), weights(last)
    return any(not torch.equal(one[key], two[key]) for key in one if one[key].dim() > 1)


def check(experiment: Experiment, launch: Callable, folder: Path) -> None:
    whole = launch(experiment, folder=str(folder / "whole"))
    ((path, record),) = whole
    assert read_record(path) == record
    assert all(value is None or math.isfinite(value) for value in record.scores.per_class)
    assert record.scores.ece is not None
    assert all(learns_to_the_end(stage) for stage in stages(folder / "whole"))
    original = StageOneLoop.run_epoch

    def stopping(self: StageOneLoop) -> None:
        if self.epoch == 1:
            raise Killed
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageOneLoop, "run_epoch", stopping)
        with pytest.raises(Killed):
            launch(experiment, folder=str(folder / "cut"))
    resumed = launch(experiment, folder=str(folder / "cut"), unfinished="resume")
    one, two = state(folder / "whole"), state(folder / "cut")
    assert one and len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert resumed[0][1].scores == record.scores
    assert resumed[0][1].selected == record.selected


@pytest.mark.parametrize("stem", STEMS)
def test_every_config(stem: str, launch: Callable, tmp_path: Path) -> None:
    check(shortened(stem), launch, tmp_path)


def test_every_method_without_a_config(
    launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_experiment("digits_lt/plain", TWO_EPOCHS)

    class NamedByNoConfig(METHODS.get("plain")):
        """Every method of this project has a config: one that has none shows that it would be found."""

    monkeypatch.setitem(METHODS.module_dict, "named_by_no_config", NamedByNoConfig)
    needs_arguments = {"lfme_expert"}  # trained as a part of lfme
    names = sorted(set(METHODS.names()) - used_by_configs() - needs_arguments)
    assert "named_by_no_config" in names
    for name in names:
        config = {**base.config, "method": {METHODS.get(name).seam: {"type": name}}}
        check(Experiment(f"digits_lt/{name}", resolve(config)), launch, tmp_path / name)
