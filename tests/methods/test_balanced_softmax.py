"""The balanced softmax against its formula."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.losses.class_priors import log_prior, prior_cross_entropy
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
)


def test_formula() -> None:
    logits = draw(8, CLASSES, spread=2.0)
    expected = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        shares = [n * math.exp(z) for n, z in zip(COUNTS, row, strict=True)]
        expected -= math.log(shares[label] / sum(shares)) / len(LABELS)
    assert float(build("balanced_softmax").criterion(logits, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_counts_and_frequencies_give_the_same_loss() -> None:
    logits, counts = draw(8, CLASSES), torch.tensor(COUNTS)
    by_counts = prior_cross_entropy(logits, LABELS, counts.double().log())
    torch.testing.assert_close(
        prior_cross_entropy(logits, LABELS, log_prior(counts)), by_counts, rtol=1e-6, atol=0
    )


def test_equal_logits_cost_most_on_the_rarest_class() -> None:
    method = build("balanced_softmax")
    for c, n in enumerate(COUNTS):
        loss = float(method.criterion(torch.zeros(1, CLASSES), torch.tensor([c])))
        assert loss == pytest.approx(math.log(sum(COUNTS) / n), rel=1e-5)


def test_log_prior() -> None:
    expected = [math.log(n / sum(COUNTS)) for n in COUNTS]
    torch.testing.assert_close(log_prior(torch.tensor(COUNTS)), torch.tensor(expected))
    with pytest.raises(LTBenchError, match="at least one training image"):
        log_prior(torch.tensor([3, 0]))


def test_gradients_are_those_of_finite_differences() -> None:
    assert_gradients(build("balanced_softmax").criterion)


@extremes
def test_stays_finite(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert assert_finite(build("balanced_softmax").criterion, logits, labels) >= 0


def test_reads_no_value_and_saves_nothing() -> None:
    assert_reads_no_value(build("balanced_softmax"))
    assert_nothing_to_resume(build("balanced_softmax"))


def test_end_to_end(short, launch) -> None:
    (_, record), *_ = launch(short("balanced_softmax", **{"stage1.epochs": 2}))
    assert record.label == "Balanced Softmax"
