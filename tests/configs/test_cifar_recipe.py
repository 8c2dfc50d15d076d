"""The recipe of the CIFAR-LT boards: all of their numbers hang on it."""

from __future__ import annotations

import pytest

from lt_bench.config import load_experiment

FOLDERS = [f"cifar{classes}_lt{factor}" for classes in (10, 100) for factor in ("", "_if50", "_if10")]


@pytest.mark.parametrize("folder", FOLDERS)
def test_plain_is_trained_as_in_ldam_drw(folder: str) -> None:
    """Cao et al., 2019: warm-up over 5 epochs, divided by 100 after epoch 160 and again after 180."""
    config = load_experiment(f"{folder}/plain_r32").config
    settings, sgd = config["stage1"], config["stage1"]["optimizer"]
    assert (settings["epochs"], settings["batch_size"]) == (200, 128)
    assert (sgd["type"], sgd["lr"], sgd["momentum"], sgd["weight_decay"]) == ("SGD", 0.1, 0.9, 2e-4)
    assert not sgd.get("nesterov") and not settings.get("clip_grad")
    assert settings["schedule"] == [
        {"type": "LinearLR", "start_factor": 0.2, "by_epoch": True, "begin": 0, "end": 5},
        {"type": "MultiStepLR", "milestones": [160, 180], "gamma": 0.01, "by_epoch": True},
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_classifiers_are_trained_as_in_decoupling(folder: str) -> None:
    """Kang et al., 2020: rate 0.2 at batch 512, so a quarter of it at a quarter of the batch."""
    recipe = load_experiment(f"{folder}/crt_r32").config["method"]["classifier"]["recipe"]
    assert recipe == {"epochs": 10, "batch_size": 128, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
