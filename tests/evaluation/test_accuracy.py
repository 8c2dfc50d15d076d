"""Accuracies and F1 against loops in Python, and against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.accuracy import (
    class_f1,
    count_classes,
    per_class_accuracy,
)
from lt_bench.evaluation.report import evaluate_predictions


def slow_accuracy(predictions, labels, num_classes):
    found = []
    for number in range(num_classes):
        hits = [p == y for p, y in zip(predictions, labels, strict=True) if y == number]
        found.append(sum(hits) / len(hits) if hits else math.nan)
    return found


def slow_f1(predictions, labels, num_classes):
    found = []
    for number in range(num_classes):
        pairs = [(p == number, y == number) for p, y in zip(predictions, labels, strict=True)]
        right = sum(p and y for p, y in pairs)
        false_positive = sum(p and not y for p, y in pairs)
        missed = sum(y and not p for p, y in pairs)
        tested = right + missed
        found.append(2 * right / (2 * right + false_positive + missed) if tested else math.nan)
    return found


@st.composite
def scored(draw):
    num_classes = draw(st.integers(1, 7))
    label = st.integers(0, num_classes - 1)
    labels = draw(st.lists(label, min_size=1, max_size=40))
    runs = draw(st.integers(1, 4))
    row = st.lists(label, min_size=len(labels), max_size=len(labels))
    return draw(st.lists(row, min_size=runs, max_size=runs)), labels, num_classes


@settings(deadline=None)
@given(scored())
def test_many_classifiers_in_one_pass_equal_the_loop(case):
    predictions, labels, num_classes = case
    found = per_class_accuracy(torch.tensor(predictions), torch.tensor(labels), num_classes)
    slow = [slow_accuracy(row, labels, num_classes) for row in predictions]
    expected = torch.tensor(slow, dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=1e-15)
    one = per_class_accuracy(torch.tensor(predictions[0]), torch.tensor(labels), num_classes)
    torch.testing.assert_close(one, found[0], equal_nan=True, rtol=0, atol=0)


@settings(deadline=None)
@given(scored())
def test_f1_equals_the_loop_and_scikit_learn(case):
    predictions, labels, num_classes = case
    counts = count_classes(torch.tensor(predictions), torch.tensor(labels), num_classes)
    slow = [slow_f1(row, labels, num_classes) for row in predictions]
    expected = torch.tensor(slow, dtype=torch.float64)
    torch.testing.assert_close(class_f1(counts), expected, equal_nan=True, rtol=0, atol=1e-15)
    ones, there = torch.ones(num_classes, dtype=torch.int64), sorted(set(labels))
    for row in predictions:
        scores = evaluate_predictions(torch.tensor(row), None, torch.tensor(labels), ones, "strict")
        theirs = f1_score(labels, row, labels=there, average="macro", zero_division=0)
        assert scores.macro_f1 == pytest.approx(100 * theirs, abs=1e-10)


def test_histograms_are_integers_that_add_up():
    predictions = torch.tensor([[0, 1, 2, 2], [2, 2, 2, 2]])
    labels = torch.tensor([0, 1, 1, 2])
    counts = count_classes(predictions, labels, 4)
    assert counts.hits.tolist() == [[1, 1, 1, 0], [0, 0, 1, 0]]
    assert counts.predicted.tolist() == [[1, 1, 2, 0], [0, 0, 4, 0]]
    assert counts.tested.tolist() == [1, 2, 1, 0]


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([0, 1], [0, 3], r"test labels must lie in 0\.\.2 \(3 classes\), got 3"),
        ([0, 1], [-1, 0], "test labels must lie in .* got -1"),
        ([0, 7], [0, 1], "predictions must lie in .* got 7"),
        ([0, 1, 2], [0, 1], r"predictions must be \(n,\) or \(T, n\)"),
    ],
)
def test_bad_input_is_refused(predictions, labels, message):
    with pytest.raises(LTBenchError, match=message):
        count_classes(torch.tensor(predictions), torch.tensor(labels), 3)


def test_no_sample_and_no_integers_are_refused():
    with pytest.raises(LTBenchError, match="empty"):
        count_classes(torch.zeros(0).long(), torch.zeros(0).long(), 3)
    with pytest.raises(LTBenchError, match="must be integers"):
        count_classes(torch.zeros(2), torch.zeros(2).long(), 3)
