"""The focal loss against its formula, sample by sample."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
from methods.focal import focal_loss
from tests.loss_cases import (
    CLASSES,
    LABELS,
    assert_finite,
    assert_gradients,
    assert_nothing_to_resume,
    assert_reads_no_value,
    build,
    draw,
    extremes,
)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_formula(gamma: float) -> None:
    logits = draw(8, CLASSES, spread=2.0)
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(value) for value in row)
        expected += -((1 - p) ** gamma) * math.log(p) / len(LABELS)
    assert float(focal_loss(logits, LABELS, gamma)) == pytest.approx(expected, rel=1e-12)


def test_gamma_0_is_cross_entropy_and_gamma_favours_the_hard() -> None:
    logits = draw(8, CLASSES)
    torch.testing.assert_close(focal_loss(logits, LABELS, 0.0), F.cross_entropy(logits, LABELS))
    easy, hard = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    y = torch.tensor([0])
    assert focal_loss(hard, y, 2.0) / focal_loss(easy, y, 2.0) > 100 * (
        F.cross_entropy(hard, y) / F.cross_entropy(easy, y)
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradients_are_those_of_finite_differences(gamma: float) -> None:
    assert_gradients(build("focal", gamma=gamma).criterion)


@extremes
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor, gamma: float) -> None:
    assert assert_finite(build("focal", gamma=gamma).criterion, logits, labels) >= 0


def test_a_certain_sample_has_no_loss_and_a_lost_one_all_of_it() -> None:
    criterion = build("focal", gamma=0.5).criterion
    y = torch.tensor([1])
    assert float(criterion(torch.tensor([[0.0, 1e4]]), y)) == 0
    assert float(criterion(torch.tensor([[1e4, 0.0]]), y)) == pytest.approx(1e4)


def test_reads_no_value_and_saves_nothing() -> None:
    method = build("focal")
    assert method.gamma == 2.0
    assert_reads_no_value(method)
    assert_nothing_to_resume(method)


@pytest.mark.parametrize("gamma", [-1, math.nan, math.inf, "2"])
def test_refuses_another_gamma(gamma: float) -> None:
    with pytest.raises(LTBenchError, match="focal's gamma is a finite number from 0"):
        build("focal", gamma=gamma)


def test_end_to_end(short, launch) -> None:
    (_, record), *_ = launch(short("focal", **{"stage1.epochs": 2}))
    assert record.label == "Focal"
