"""Class-balanced cross-entropy against its formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
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
    log_softmax,
)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_formula(beta: float) -> None:
    logits, weights = draw(8, CLASSES, spread=2.0), effective_weights(beta)
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        expected -= weights[label] * log_softmax(row)[label] / len(LABELS)
    assert float(build("cb_ce", beta=beta).criterion(logits, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_the_default_is_beta_9999_and_beta_0_is_cross_entropy() -> None:
    torch.testing.assert_close(
        build("cb_ce").weights, torch.tensor(effective_weights(0.9999)), rtol=1e-6, atol=0
    )
    logits = draw(8, CLASSES)
    torch.testing.assert_close(
        build("cb_ce", beta=0.0).criterion(logits, LABELS), F.cross_entropy(logits, LABELS)
    )


def test_a_batch_of_one_class_keeps_its_weight() -> None:
    """The mean is over samples: dividing by the weights' sum would cancel them here."""
    method, logits = build("cb_ce", beta=0.9), draw(3, CLASSES, seed=2)
    weights = effective_weights(0.9)
    for c in range(CLASSES):
        y = torch.full((3,), c)
        ratio = float(method.criterion(logits, y) / F.cross_entropy(logits, y))
        assert ratio == pytest.approx(weights[c], rel=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    assert_gradients(build("cb_ce").criterion)


@extremes
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert assert_finite(build("cb_ce").criterion, logits, labels) >= 0


def test_reads_no_value_and_saves_nothing() -> None:
    assert_reads_no_value(build("cb_ce"))
    assert_nothing_to_resume(build("cb_ce"))


@pytest.mark.parametrize("beta", [1.0, -0.1, math.nan, "0.9"])
def test_refuses_another_beta(beta: float) -> None:
    with pytest.raises(LTBenchError, match="beta"):
        build("cb_ce", beta=beta)


def test_end_to_end(short, launch) -> None:
    (_, record), *_ = launch(short("cb_ce", **{"stage1.epochs": 2}))
    assert record.label == "CB-CE"
