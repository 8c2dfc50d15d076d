"""CE-DRW: cross-entropy, then the weighted one, at the right epoch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
from methods.ce_drw import weighted_cross_entropy
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


def slow_loss(logits: list[list[float]], weights: list[float]) -> float:
    total, share = 0.0, 0.0
    for row, label in zip(logits, LABELS.tolist(), strict=True):
        total -= weights[label] * log_softmax(row)[label]
        share += weights[label]
    return total / share


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_formula_after_the_switch(beta: float) -> None:
    method, logits = build("ce_drw", beta=beta), draw(8, CLASSES, spread=2.0)
    method.start_epoch(200, 200)
    expected = slow_loss(logits.tolist(), effective_weights(beta))
    assert float(method.criterion(logits, LABELS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("epochs", "deferred", "last"), [(200, 0.8, 160), (10, 0.8, 8), (5, 0.5, 2), (4, 0.0, 0), (4, 1.0, 4)]
)
def test_the_weights_set_in_after_the_switch_epoch(epochs: int, deferred: float, last: int) -> None:
    method, logits = build("ce_drw", deferred=deferred), draw(8, CLASSES)
    plain = F.cross_entropy(logits, LABELS)
    weighted = weighted_cross_entropy(logits, LABELS, method.weights)
    assert not torch.allclose(plain, weighted)
    # Backwards, for a resumed run starts anywhere.
    for epoch in range(epochs, 0, -1):
        method.start_epoch(epoch, epochs)
        assert torch.equal(method.criterion(logits, LABELS), weighted if epoch > last else plain)


def test_the_default_is_the_papers() -> None:
    method = build("ce_drw")
    assert method.deferred == 0.8
    torch.testing.assert_close(method.weights, torch.tensor(effective_weights(0.9999)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("epoch", [1, 10])
def test_gradients_are_those_of_finite_differences(epoch: int) -> None:
    method = build("ce_drw")
    method.start_epoch(epoch, 10)
    assert_gradients(method.criterion)


@extremes
@pytest.mark.parametrize("epoch", [1, 10])
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor, epoch: int) -> None:
    method = build("ce_drw")
    method.start_epoch(epoch, 10)
    assert assert_finite(method.criterion, logits, labels) >= 0


def test_reads_no_value_and_saves_nothing() -> None:
    method = build("ce_drw")
    assert_reads_no_value(method)
    method.start_epoch(10, 10)
    assert_reads_no_value(method)
    assert_nothing_to_resume(method)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta": 1.0}, "from 0 to below 1"),
        ({"beta": None}, "ce_drw's beta"),
        ({"deferred": 160}, "in 0 to 1"),
        ({"deferred": None}, "in 0 to 1"),
    ],
)
def test_refuses(options: dict, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build("ce_drw", **options)


def test_end_to_end_it_is_plain_training_until_the_switch(short, launch) -> None:
    drw = launch(short("ce_drw", **{"stage1.epochs": 2, "method.representation.deferred": 0.5}))
    plain = launch(short("plain", **{"stage1.epochs": 2}))
    (path, record), (_, base) = drw[0], plain[0]
    assert record.label == "CE-DRW"

    def saved(epoch: int, identity: str) -> dict:
        folder = path.parents[3] / "work" / "stage1" / identity
        return torch.load(folder / f"epoch_{epoch}.pth", weights_only=False)["state_dict"]

    for epoch, same in ((1, True), (2, False)):
        weights = saved(epoch, record.stage1["identity"]), saved(epoch, base.stage1["identity"])
        assert torch.equal(weights[0]["head.weight"], weights[1]["head.weight"]) is same
