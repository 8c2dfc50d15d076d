"""Settings that a method's documentation states hold where a config names none."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from lt_bench.registry import METHODS

# Those that no formula's test holds: such tests give their own values.
STATED: dict[str, dict[str, Any]] = {
    "bcl": {"hidden": 512, "out": 128},
    "disalign": {"rho": 1.2},
    "lifted": {"weight": 0.1, "margin": 5.0},
    "mislas": {
        "smooth_head": 0.4,
        "smooth_tail": 0.1,
        "shape": "concave",
        "head_lr_factor": 0.2,
        "shift_bn": True,
    },
    "oltr": {
        "hidden": 512,
        "epochs": 60,
        "batch_size": 128,
        "backbone_lr": 0.01,
        "head_lr": 0.1,
        "memory_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "centroid_weight": 0.01,
        "train_backbone": True,
    },
    # Its margin is 0.1 of normalised features: test_range_loss.py.
    "range_loss": {"alpha": 0.5, "beta": 0.5, "k": 2, "normalise": True, "reduction": "mean"},
    "sade_aggregated": {
        "test_distribution": "backward-50",
        "epochs": 5,
        "batch_size": 128,
        "lr": 0.1,
        "stop": 0.05,
    },
    "weight_balancing": {"threshold": 0.1, "beta": 0.9999, "loss": "binary"},
}


@pytest.mark.parametrize("name", STATED)
def test_a_default_is_the_stated_one(name: str) -> None:
    parameters = inspect.signature(METHODS.get(name)).parameters
    assert {key: parameters[key].default for key in STATED[name]} == STATED[name]
