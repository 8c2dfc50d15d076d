"""Logit adjustment in the loss and post hoc, against the formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
from methods import logit_adjustment
from methods.logit_adjustment import adjusted_accuracies
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


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_formula_of_the_loss(tau: float) -> None:
    logits = draw(8, CLASSES, spread=2.0)
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        adjusted = [z + tau * math.log(p) for z, p in zip(row, PRIOR, strict=True)]
        expected -= log_softmax(adjusted)[label] / len(LABELS)
    loss = build("logit_adjustment", tau=tau).criterion(logits, LABELS)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_tau_1_is_the_default_and_tau_0_cross_entropy() -> None:
    logits = draw(8, CLASSES)
    criterion = build("logit_adjustment").criterion
    assert torch.equal(criterion(logits, LABELS), build("logit_adjustment", tau=1).criterion(logits, LABELS))
    plain = build("logit_adjustment", tau=0.0).criterion(logits, LABELS)
    torch.testing.assert_close(plain, F.cross_entropy(logits, LABELS))


def test_gradients_are_those_of_finite_differences() -> None:
    assert_gradients(build("logit_adjustment").criterion)


@extremes
def test_the_loss_stays_finite(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert assert_finite(build("logit_adjustment").criterion, logits, labels) >= 0


def test_the_loss_reads_no_value_and_saves_nothing() -> None:
    assert_reads_no_value(build("logit_adjustment"))
    assert_nothing_to_resume(build("logit_adjustment"))


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.7])
def test_formula_post_hoc(tau: float) -> None:
    logits = draw(4, CLASSES)
    method = build("logit_adjusted", tau=tau)
    assert method.fit(None) == ({}, "none")
    adjusted = method(logits)
    for i in range(4):
        for j in range(CLASSES):
            expected = float(logits[i, j]) - tau * math.log(PRIOR[j])
            assert float(adjusted[i, j]) == pytest.approx(expected, rel=1e-6)


@extremes
def test_post_hoc_stays_finite_and_favours_the_rare(logits: torch.Tensor, labels: torch.Tensor) -> None:
    adjusted = build("logit_adjusted")(logits)
    assert adjusted.dtype == torch.float32 and torch.isfinite(adjusted).all()
    assert (build("logit_adjusted")(torch.zeros(1, CLASSES)).argmax(1) == 4).all()


def split(n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that lean towards the frequent classes by about τ = 1.2; the third class is not tested."""
    labels = torch.randint(0, CLASSES - 1, (n,), generator=torch.Generator().manual_seed(3))
    labels = torch.where(labels == 2, 4, labels)
    logits = draw(n, CLASSES, seed=6) + 1.2 * torch.tensor(PRIOR).log() + 2.5 * F.one_hot(labels, CLASSES)
    return logits.float(), labels


def slow_accuracy(logits: torch.Tensor, labels: torch.Tensor, tau: float) -> float:
    hits: dict[int, list[bool]] = {}
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        adjusted = [z - tau * math.log(p) for z, p in zip(row, PRIOR, strict=True)]
        hits.setdefault(label, []).append(adjusted.index(max(adjusted)) == label)
    return sum(sum(own) / len(own) for own in hits.values()) / len(hits)


@pytest.mark.parametrize("room", [1, 700, 2**24])
def test_all_taus_in_one_pass_equal_each_alone(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logit_adjustment, "ROOM", room)
    logits, labels = split()
    taus = [0.0, 0.4, 1.0, 1.3, 2.0]
    found = adjusted_accuracies(logits, labels, torch.tensor(PRIOR).log(), taus)
    expected = [slow_accuracy(logits, labels, tau) for tau in taus]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 2


def test_tau_is_chosen_on_validation() -> None:
    logits, labels = split()
    method = build("logit_adjusted", tau="val")
    with pytest.raises(LTBenchError, match="fit first"):
        method(logits)
    chosen, on = method.fit((logits, labels))
    assert on == "val" and list(chosen) == ["prediction_tau"]
    scores = {tau / 10: slow_accuracy(logits, labels, tau / 10) for tau in range(21)}
    best = max(scores.values())
    assert chosen["prediction_tau"] == min(tau for tau, score in scores.items() if score == best)
    assert 0 < chosen["prediction_tau"] < 2
    fixed = build("logit_adjusted", tau=chosen["prediction_tau"])
    assert torch.equal(method(logits), fixed(logits))


def test_no_validation_split_says_what_to_do() -> None:
    with pytest.raises(LTBenchError, match=r"which toy lacks; set method\.prediction\.tau=1\.0"):
        build("logit_adjusted", tau="val").check(splits={"train", "test"}, epochs=3)
    build("logit_adjusted").check(splits={"train", "test"}, epochs=3)


@pytest.mark.parametrize("tau", [-1.0, math.nan, None, "test"])
@pytest.mark.parametrize("kind", ["logit_adjustment", "logit_adjusted"])
def test_refuses_another_tau(kind: str, tau: float) -> None:
    with pytest.raises(LTBenchError, match=f"{kind}'s tau is a"):
        build(kind, tau=tau)


def test_end_to_end(short, launch) -> None:
    options = {"stage1.epochs": 2}
    (_, record), *_ = launch(short("logit_adjustment", **options))
    assert record.label == "Logit adjustment (loss)"


def test_post_hoc_end_to_end_shares_plain_training(short, launch) -> None:
    options = {"stage1.epochs": 2}
    outcome = launch(short("plain", **options), short("logit_adjusted", **options))
    (_, plain), (_, adjusted) = outcome
    assert adjusted.label == "Logit adjustment (post hoc)"
    assert adjusted.stage1["identity"] == plain.stage1["identity"]
    assert adjusted.protocol["selection_split"] is None


def test_both_taus_of_tau_norm_and_this_one_are_in_the_record(short, launch) -> None:
    options = {
        "stage1.epochs": 2,
        "method.classifier.type": "tau_norm",
        "method.prediction.tau": "val",
    }
    (_, record), *_ = launch(short("logit_adjusted", **options))
    assert set(record.selected) == {"tau", "prediction_tau"}
    assert record.protocol["selection_split"] == "val"
