"""Scores against loops, and the identities that must hold between them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.report import evaluate, regroup
from lt_bench.evaluation.shots import CONVENTIONS

COUNTS = torch.tensor([400, 101, 100, 60, 20, 20, 3])


def random_case(samples, seed=0):
    classes = len(COUNTS)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=generator)
    logits = torch.randn(samples, classes, generator=generator)
    return logits + torch.nn.functional.one_hot(labels, classes), labels


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_scores_equal_a_loop(convention):
    logits, labels = random_case(300)
    scores = evaluate(logits, labels, COUNTS, convention)
    hits = [[] for _ in COUNTS]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hits[label].append(row.index(max(row)) == label)
    accuracy = [100 * sum(found) / len(found) for found in hits]
    rule = CONVENTIONS[convention]
    groups = {"many": [], "medium": [], "few": []}
    for value, count in zip(accuracy, COUNTS.tolist(), strict=True):
        name = "many" if count >= rule.many_from else "few" if count <= rule.few_to else "medium"
        groups[name].append(value)
    assert scores.per_class == pytest.approx(accuracy)
    assert scores.overall == pytest.approx(100 * sum(map(sum, hits)) / 300)
    assert scores.mean_class == pytest.approx(sum(accuracy) / len(accuracy))
    assert scores.worst_class == pytest.approx(min(accuracy))
    for name, values in groups.items():
        assert getattr(scores, name) == pytest.approx(sum(values) / len(values))
        assert scores.group_classes[name] == len(values)


def test_on_a_balanced_test_set_weighted_groups_give_overall():
    logits, _ = random_case(700)
    labels = torch.arange(700) % len(COUNTS)
    for convention in CONVENTIONS:
        scores = evaluate(logits, labels, COUNTS, convention)
        weighted = sum(getattr(scores, name) * size for name, size in scores.group_classes.items())
        assert weighted / len(COUNTS) == pytest.approx(scores.overall, abs=1e-9)
        assert scores.mean_class == pytest.approx(scores.overall, abs=1e-9)


def test_an_empty_group_is_none_and_an_untested_class_is_left_out():
    logits = torch.eye(4)[[0, 1, 1, 3]]
    labels = torch.tensor([0, 1, 1, 0])
    scores = evaluate(logits, labels, torch.tensor([500, 400, 300, 10]), "paper")
    assert scores.per_class == (50.0, 100.0, None, None)
    assert scores.tested == (2, 2, 0, 0)
    assert scores.many == 75.0
    assert scores.medium is None  # no such class
    assert scores.few is None  # one class, which has no test sample
    assert scores.group_classes == {"many": 3, "medium": 0, "few": 1}
    assert scores.overall == 75.0 and scores.mean_class == 75.0 and scores.worst_class == 50.0
    f1 = [2 / 3, 1.0]  # class 0: one hit, one missed; class 3 was predicted but is not tested
    assert scores.macro_f1 == pytest.approx(100 * sum(f1) / 2)
    numbers = [value for value in dataclasses.astuple(scores) if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers)


def test_regrouping_equals_evaluating_under_the_other_convention():
    logits, labels = random_case(250, seed=5)
    scores = evaluate(logits, labels, COUNTS, "paper")
    for convention in CONVENTIONS:
        assert regroup(scores, COUNTS, convention) == evaluate(logits, labels, COUNTS, convention)


def test_nan_and_infinite_logits_are_refused_and_ruled_out_classes_are_not():
    logits, labels = random_case(30)
    expected = evaluate(logits, labels, COUNTS, "paper")
    for value in (math.nan, math.inf):
        broken = logits.clone()
        broken[17, 2] = value
        with pytest.raises(LTBenchError, match=r"1 of 30 samples .*sample 17.*diverged"):
            evaluate(broken, labels, COUNTS, "paper")
    logits[:, 6] = -math.inf
    ruled_out = evaluate(logits, labels, COUNTS, "paper")
    assert ruled_out.per_class[6] == 0.0
    assert ruled_out.overall != expected.overall
    logits[4] = -math.inf
    with pytest.raises(LTBenchError, match="sample 4"):
        evaluate(logits, labels, COUNTS, "paper")


def test_shapes_that_do_not_fit_are_refused():
    logits, labels = random_case(30)
    with pytest.raises(LTBenchError, match="7 classes, the training counts 5"):
        evaluate(logits, labels, COUNTS[:5], "paper")
    with pytest.raises(LTBenchError, match="floats of shape"):
        evaluate(logits[0], labels, COUNTS, "paper")
    with pytest.raises(LTBenchError, match="must be"):
        evaluate(logits[:29], labels, COUNTS, "paper")
    with pytest.raises(LTBenchError, match="got 7"):
        evaluate(logits, labels + 1, COUNTS, "paper")
