"""The optimal classifier has gradient 0, and class losses are those of loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.figures.optimal_classifier import class_losses, optimal_classifier

COUNTS = torch.tensor([7, 4, 2])


def long_tailed(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(3), COUNTS)
    features = torch.randn(13, 2, generator=draw, dtype=torch.float64) + labels[:, None]
    return features.to(dtype), labels


def slow_class_losses(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> list[float]:
    sums, sizes = [0.0] * len(bias), [0] * len(bias)
    for row, label in zip(features.tolist(), labels.tolist(), strict=True):
        logits = [
            sum(w * z for w, z in zip(weights, row, strict=True)) + b
            for weights, b in zip(weight.tolist(), bias.tolist(), strict=True)
        ]
        sums[label] += math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
        sizes[label] += 1
    return [total / size for total, size in zip(sums, sizes, strict=True)]


def slow_objective(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, decay: float) -> float:
    losses = slow_class_losses(features, labels, weight, bias)
    squares = sum(w * w for row in weight.tolist() for w in row) + sum(b * b for b in bias.tolist())
    return sum(losses) / len(losses) + decay / 2 * squares


@pytest.mark.parametrize("seed", range(3))
def test_class_losses(seed: int) -> None:
    features, labels = long_tailed(seed)
    draw = torch.Generator().manual_seed(seed + 100)
    weight = torch.randn(3, 2, generator=draw, dtype=torch.float64)
    bias = torch.randn(3, generator=draw, dtype=torch.float64)
    expected = slow_class_losses(features, labels, weight, bias)
    found = class_losses(features, labels, (weight, bias))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("decay", [5e-4, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_no_direction_leads_down(seed: int, decay: float) -> None:
    """Every central difference of the slow objective is 0: of a strictly convex one that is the minimum."""
    features, labels = long_tailed(seed)
    weight, bias = optimal_classifier(features, labels, decay)
    assert weight.dtype == bias.dtype == torch.float64
    both, step = torch.cat([weight, bias[:, None]], dim=1), 1e-4
    for index in range(both.numel()):
        sides = []
        for sign in (step, -step):
            moved = both.clone()
            moved.view(-1)[index] += sign
            sides.append(slow_objective(features, labels, moved[:, :-1], moved[:, -1], decay))
        assert abs(sides[0] - sides[1]) / (2 * step) < 1e-6
        assert min(sides) > slow_objective(features, labels, weight, bias, decay)


def test_separable_features_and_half_precision() -> None:
    features, labels = long_tailed(0, torch.float16)
    weight, bias = optimal_classifier(features + 100 * labels[:, None], labels, 5e-4)
    assert torch.isfinite(weight).all() and torch.isfinite(bias).all()


def test_without_weight_decay_there_is_no_optimum() -> None:
    with pytest.raises(LTBenchError, match="weight decay above 0, got 0"):
        optimal_classifier(*long_tailed(0), 0.0)


def test_it_is_said_where_the_optimum_was_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_bench.figures.optimal_classifier.MOST_STEPS", 2)
    with pytest.raises(LTBenchError, match="no optimal linear classifier was found within 2 steps"):
        optimal_classifier(*long_tailed(0), 5e-4)


def test_a_weight_decay_that_rounding_loses_is_said() -> None:
    """One feature an affine function of another: without the decay the curvature is singular."""
    values = torch.linspace(1, 2, 50, dtype=torch.float64)
    labels = torch.arange(50) % 2
    refused = 0
    for slope in torch.linspace(1.1, 2.9, 10).tolist():
        features = torch.stack([values, slope * values + 1 / 3], 1)
        try:
            optimal_classifier(features, labels, 1e-19)
        except LTBenchError as error:
            assert "raise classifier_recipe.weight_decay" in str(error)
            refused += "is lost in rounding" in str(error)
    assert refused > 0
