"""The calibration error against the definition, bin by bin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.calibration import binned_calibration_error, confidences
from lt_bench.evaluation.report import evaluate


def slow_error(confidence, correct, bins):
    total = 0.0
    for m in range(bins):
        inside = [
            (p, hit)
            for p, hit in zip(confidence, correct, strict=True)
            if m / bins < p <= (m + 1) / bins or (m == 0 and p == 0)
        ]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            mean = sum(p for p, _ in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return 100 * total


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([1, 2, 4, 8]),  # bins whose edges are exact in binary
)
def test_equals_the_definition(samples, bins):
    confidence, correct = zip(*samples, strict=True)
    found = binned_calibration_error(
        torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct), bins
    )
    assert found == pytest.approx(slow_error(confidence, correct, bins), abs=1e-9)


def test_fifteen_bins_over_logits():
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(500, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (500,), generator=generator)
    probabilities = logits.softmax(1)
    confidence, predictions = probabilities.max(1)
    torch.testing.assert_close(confidences(logits), confidence)
    expected = slow_error(confidence.tolist(), (predictions == labels).tolist(), 15)
    assert evaluate(logits, labels, torch.ones(10, dtype=torch.int64), "strict").ece == pytest.approx(
        expected, abs=1e-9
    )
    assert 0 < expected < 100


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    confidence = confidences(torch.tensor([[50.0, 0.0], [50.0, 0.0]]))
    assert binned_calibration_error(confidence, torch.tensor([True, True])) == pytest.approx(0, abs=1e-6)
    assert binned_calibration_error(confidence, torch.tensor([False, False])) == pytest.approx(100)


def test_half_precision_is_widened():
    logits = torch.tensor([[60000.0, 1.0], [1.0, 0.0]], dtype=torch.float16)
    found = confidences(logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([1.0, 0.7310586]))


@pytest.mark.parametrize("confidence", [[float("nan")], [1.5], [-0.1], []])
def test_what_is_no_confidence_is_refused(confidence):
    with pytest.raises(LTBenchError):
        binned_calibration_error(torch.tensor(confidence), torch.ones(len(confidence)).bool())
