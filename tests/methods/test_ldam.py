"""LDAM against its formula, its deferred re-weighting, and its head under other classifiers."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.losses.margins import label_aware_margins
from lt_bench.models.heads import ScaledHead
from methods.tau_norm import normalised_head
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
    effective_weights,
    extremes,
    log_softmax,
)

DIM = 6


def slow_margins(largest: float = 0.5) -> list[float]:
    raw = [1 / n**0.25 for n in COUNTS]
    return [largest * m / max(raw) for m in raw]


def slow_loss(features: list[list[float]], rows: list[list[float]], weights: list[float]) -> float:
    """From features and classifier rows, cosine by cosine."""
    margins, total, share = slow_margins(), 0.0, 0.0
    for z, label in zip(features, LABELS.tolist(), strict=True):
        logits = []
        for j, w in enumerate(rows):
            cosine = sum(a * b for a, b in zip(z, w, strict=True)) / (math.hypot(*z) * math.hypot(*w))
            logits.append(30 * (cosine - (margins[j] if j == label else 0)))
        total -= weights[label] * log_softmax(logits)[label]
        share += weights[label]
    return total / share


def test_margins_fall_with_the_fourth_root_of_the_count() -> None:
    margins = label_aware_margins(torch.tensor(COUNTS), 0.5)
    torch.testing.assert_close(margins, torch.tensor(slow_margins()), rtol=1e-6, atol=0)
    assert margins.argmax() == 4 and float(margins.max()) == 0.5


@pytest.mark.parametrize("epoch", [1, 160, 161, 200])
def test_formula_before_and_after_the_switch(epoch: int) -> None:
    method, features = build("ldam"), draw(8, DIM)
    head = method.build_head(DIM).double()
    method.start_epoch(epoch, 200)
    weights = [1.0] * CLASSES if epoch <= 160 else effective_weights(0.9999)
    expected = slow_loss(features.tolist(), head.weight.detach().tolist(), weights)
    loss = float(method.criterion(head(features), LABELS).detach())
    assert loss == pytest.approx(expected, rel=1e-6)


def test_a_batch_of_one_class_is_not_scaled_by_its_weight() -> None:
    method, logits = build("ldam"), draw(3, CLASSES)
    rare = torch.full((3,), 4)
    before = float(method.criterion(logits, rare))
    method.start_epoch(200, 200)
    assert float(method.criterion(logits, rare)) == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize("deferred", [None, 1.0])
def test_without_re_weighting(deferred: float | None) -> None:
    method, logits = build("ldam", deferred=deferred), draw(8, CLASSES)
    first = method.criterion(logits, LABELS)
    method.start_epoch(200, 200)
    assert torch.equal(method.criterion(logits, LABELS), first)
    method = build("ldam", deferred=0.0)
    method.start_epoch(1, 200)
    assert not torch.equal(method.criterion(logits, LABELS), first)


def test_going_back_to_an_early_epoch_takes_the_weights_off() -> None:
    """The schedule is a function of the epoch alone, as resuming needs it."""
    method, logits = build("ldam"), draw(8, CLASSES)
    first = method.criterion(logits, LABELS)
    for epoch in (9, 2):
        method.start_epoch(epoch, 10)
    assert torch.equal(method.criterion(logits, LABELS), first)


def test_the_head_gives_scaled_cosines_from_unit_rows() -> None:
    head, z = build("ldam").build_head(DIM), draw(4, DIM).float()
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(CLASSES))
    logits = head(z).detach()
    assert float(logits.abs().max()) <= 30.001 and float(logits.abs().max()) > 1
    torch.testing.assert_close(head(100 * z).detach(), logits)


def test_other_classifiers_work_on_the_head() -> None:
    head, z = build("ldam").build_head(DIM), draw(50, DIM).float()
    with torch.no_grad():
        head.weight *= torch.tensor([[3.0], [0.2], [1.0], [7.0], [0.5]])
    order = head(z).argmax(1)
    assert torch.equal(normalised_head(head.weight.detach(), 1.0)(z).argmax(1), order)
    assert torch.equal(ScaledHead(head, CLASSES)(z).argmax(1), order)


@pytest.mark.parametrize("epoch", [1, 200])
def test_gradients_are_those_of_finite_differences(epoch: int) -> None:
    method = build("ldam")
    method.start_epoch(epoch, 200)
    assert_gradients(method.criterion)


@extremes
@pytest.mark.parametrize("epoch", [1, 200])
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor, epoch: int) -> None:
    method = build("ldam")
    method.start_epoch(epoch, 200)
    assert assert_finite(method.criterion, logits, labels) >= 0


def test_equal_and_zero_features_have_finite_gradients() -> None:
    method = build("ldam")
    head = method.build_head(DIM)
    for features in (torch.ones(8, DIM), torch.zeros(8, DIM)):
        features.requires_grad_()
        head.zero_grad()
        method.criterion(head(features), LABELS).backward()
        assert torch.isfinite(features.grad).all() and torch.isfinite(head.weight.grad).all()


def test_reads_no_value_and_saves_nothing() -> None:
    method = build("ldam")
    assert_reads_no_value(method)
    method.start_epoch(200, 200)
    assert_reads_no_value(method)
    assert_nothing_to_resume(method)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_margin": -0.5}, "ldam's max_margin"),
        ({"scale": math.inf}, "ldam's scale"),
        ({"beta": 1.0}, "from 0 to below 1"),
        ({"deferred": 160}, "in 0 to 1"),
    ],
)
def test_refuses(options: dict, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build("ldam", **options)
    with pytest.raises(LTBenchError, match="at least one training image"):
        label_aware_margins(torch.tensor([3, 0]), 0.5)


def test_end_to_end_with_classifiers_of_decoupling(short, launch) -> None:
    (_, record), *_ = launch(short("ldam", **{"stage1.epochs": 2}))
    assert record.label == "LDAM-DRW"
    for classifier in ("crt", "lws", "ncm"):
        options = {"stage1.epochs": 2, "method.classifier.type": classifier}
        (_, other), *_ = launch(short("ldam", **options), replace=True)
        assert other.scores != record.scores
        assert other.stage1["identity"] == record.stage1["identity"]
