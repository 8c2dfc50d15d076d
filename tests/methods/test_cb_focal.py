"""The class-balanced focal loss against its formula, sigmoid by sigmoid."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from lt_bench.config import load_experiment
from lt_bench.errors import LTBenchError
from methods.cb_focal import class_balanced_focal_loss
from tests.loss_cases import (
    CLASSES,
    LABELS,
    assert_finite,
    assert_gradients,
    assert_nothing_to_resume,
    assert_reads_no_value,
    build,
    draw,
    effective_weights,
    extremes,
)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_formula(beta: float, gamma: float) -> None:
    logits, weights = draw(8, CLASSES, spread=2.0), effective_weights(beta)
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        for c, z in enumerate(row):
            p = 1 / (1 + math.exp(-z))
            term = -((1 - p) ** gamma) * math.log(p) if c == label else -(p**gamma) * math.log(1 - p)
            expected += weights[label] * term / len(LABELS)
    method = build("cb_focal", beta=beta, gamma=gamma)
    assert float(method.criterion(logits, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_settings_of_the_released_code() -> None:
    method = build("cb_focal")
    torch.testing.assert_close(method.weights, torch.tensor(effective_weights(0.9999)), rtol=1e-6, atol=0)
    assert method.gamma == 1.0


def test_rare_classes_weigh_by_their_own_count() -> None:
    method, logits = build("cb_focal", beta=0.9), torch.zeros(1, CLASSES)
    losses = [float(method.criterion(logits, torch.tensor([c]))) for c in range(CLASSES)]
    weights = effective_weights(0.9)
    assert losses == sorted(losses)
    for loss, weight in zip(losses, weights, strict=True):
        assert loss / losses[0] == pytest.approx(weight / weights[0], rel=1e-5)


def test_the_head_starts_at_probability_one_in_c_without_decay_on_its_bias() -> None:
    method = build("cb_focal")
    head = method.build_head(6)
    torch.testing.assert_close(head.bias.sigmoid(), torch.full((CLASSES,), 1 / CLASSES))
    model = nn.Module()
    model.backbone, model.head = nn.Linear(3, 6), head
    wrapper = build_optim_wrapper(
        model,
        {
            "type": "OptimWrapper",
            "optimizer": {"type": "SGD", "lr": 0.1, "weight_decay": 0.01},
            "paramwise_cfg": method.paramwise(),
        },
    )
    decays = {id(p): group["weight_decay"] for group in wrapper.param_groups for p in group["params"]}
    assert decays[id(head.bias)] == 0
    assert decays[id(head.weight)] == decays[id(model.backbone.bias)] == 0.01


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_gradients_are_those_of_finite_differences(gamma: float) -> None:
    assert_gradients(build("cb_focal", gamma=gamma).criterion)


@extremes
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> None:
    assert assert_finite(build("cb_focal", gamma=gamma).criterion, logits, labels) >= 0


def test_a_lost_sample_costs_its_logit_and_a_certain_one_nothing() -> None:
    weights, y = torch.ones(2), torch.tensor([0])
    assert float(class_balanced_focal_loss(torch.tensor([[-1e4, -1e4]]), y, weights, 1.0)) == 1e4
    assert float(class_balanced_focal_loss(torch.tensor([[1e4, -1e4]]), y, weights, 1.0)) == 0


def test_reads_no_value_and_saves_nothing() -> None:
    assert_reads_no_value(build("cb_focal"))
    assert_nothing_to_resume(build("cb_focal"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta": 1.0}, "beta of class-balanced weights is from 0 to below 1"),
        ({"beta": "0.9"}, "cb_focal's beta is a finite number"),
        ({"gamma": -0.5}, "cb_focal's gamma is a finite number from 0"),
    ],
)
def test_refuses(options: dict, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build("cb_focal", **options)


def test_cifar100_has_a_beta_of_its_own() -> None:
    config = load_experiment("cifar100_lt/cb_focal_r32").config
    assert config["method"]["representation"] == {"type": "cb_focal", "beta": 0.9}


def test_end_to_end(short, launch) -> None:
    (_, record), *_ = launch(short("cb_focal", **{"stage1.epochs": 2}))
    assert record.label == "CB-Focal"
