"""LADE against its formula, class by class."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.errors import LTBenchError
from methods.lade import lader
from tests.loss_cases import (
    CLASSES,
    COUNTS,
    LABELS,
    assert_finite,
    assert_gradients,
    assert_nothing_to_resume,
    assert_reads_no_value,
    build,
    draw,
    extremes,
    log_softmax,
)

PRIOR = [n / sum(COUNTS) for n in COUNTS]


def slow_lader(
    logits: list[list[float]], labels: list[int], alpha: list[float], remine_lambda: float
) -> float:
    batch, total = len(labels), 0.0
    for c in range(CLASSES):
        own = [row[c] for row, y in zip(logits, labels, strict=True) if y == c]
        if not own:
            continue
        mean = sum((1 / CLASSES / PRIOR[y]) * math.exp(row[c]) for row, y in zip(logits, labels, strict=True))
        marginal = math.log(mean / batch)
        total += alpha[c] * (-sum(own) / len(own) + marginal + remine_lambda * marginal**2)
    return total


@pytest.mark.parametrize("labels", [LABELS.tolist(), [0, 0, 1, 0, 1, 0, 0, 3], [2] * 8])
@pytest.mark.parametrize(
    ("options", "alpha"),
    [
        ({}, PRIOR),
        ({"remine_lambda": 0.0, "estim_loss_weight": 0.5}, PRIOR),
        ({"class_weights": "target", "remine_lambda": 0.3}, [1 / CLASSES] * CLASSES),
    ],
)
def test_formula(labels: list[int], options: dict, alpha: list[float]) -> None:
    logits = draw(8, CLASSES, spread=2.0)
    cross_entropy = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        adjusted = [z + math.log(p) for z, p in zip(row, PRIOR, strict=True)]
        cross_entropy -= log_softmax(adjusted)[label] / len(labels)
    regulariser = slow_lader(logits.tolist(), labels, alpha, options.get("remine_lambda", 0.1))
    expected = cross_entropy + options.get("estim_loss_weight", 0.1) * regulariser
    loss = build("lade", **options).criterion(logits, torch.tensor(labels))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_weight_0_is_the_balanced_softmax() -> None:
    logits = draw(8, CLASSES)
    balanced = build("balanced_softmax").criterion(logits, LABELS)
    assert torch.equal(build("lade", estim_loss_weight=0.0).criterion(logits, LABELS), balanced)


def test_a_class_that_the_batch_lacks_takes_no_gradient_of_the_regulariser() -> None:
    method = build("lade")
    logits = draw(4, CLASSES).requires_grad_()
    lader(
        logits, torch.tensor([0, 0, 3, 1]), method.log_ratio, method.class_weights, method.remine_lambda
    ).backward()
    assert torch.equal(logits.grad[:, [2, 4]], torch.zeros(4, 2, dtype=torch.float64))
    assert bool((logits.grad[:, [0, 1, 3]] != 0).all())


def test_without_the_square_a_constant_of_a_class_cancels() -> None:
    """The Donsker-Varadhan bound itself does not see a shift of z_c; λ is what pins it."""
    method, logits = build("lade"), draw(8, CLASSES)
    shifted = logits + torch.tensor([3.0, -1.0, 0.5, 2.0, -4.0])

    def value(z: torch.Tensor, remine_lambda: float) -> float:
        return float(lader(z, LABELS, method.log_ratio, method.class_weights, remine_lambda))

    assert value(shifted, 0.0) == pytest.approx(value(logits, 0.0), abs=1e-6)
    assert value(shifted, 0.1) > value(logits, 0.1) + 0.01


@pytest.mark.parametrize("class_weights", ["source", "target"])
def test_gradients_are_those_of_finite_differences(class_weights: str) -> None:
    assert_gradients(build("lade", class_weights=class_weights).criterion)


@extremes
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert_finite(build("lade").criterion, logits, labels)


def test_reads_no_value_and_saves_nothing() -> None:
    assert_reads_no_value(build("lade"))
    assert_nothing_to_resume(build("lade"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"remine_lambda": -0.1}, "lade's remine_lambda"),
        ({"estim_loss_weight": math.nan}, "lade's estim_loss_weight"),
        ({"class_weights": "test"}, "one of source, target"),
    ],
)
def test_refuses(options: dict, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build("lade", **options)


def test_end_to_end(short, launch) -> None:
    (_, record), *_ = launch(short("lade", **{"stage1.epochs": 2}))
    assert record.label == "LADE"
