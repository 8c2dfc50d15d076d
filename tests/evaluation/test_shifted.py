"""Shifted test distributions against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shifted import (
    SHIFTS,
    expected_accuracy,
    parse_shift,
    shifted_distribution,
    shifted_subset,
)

COUNTS = torch.tensor([5, 100, 20, 20, 1])


def test_the_eleven_distributions_of_the_papers() -> None:
    assert len(SHIFTS) == 11 and len(set(SHIFTS)) == 11
    assert SHIFTS[0] == "forward-50" and SHIFTS[5] == "uniform" and SHIFTS[-1] == "backward-50"


@pytest.mark.parametrize("name", SHIFTS)
def test_distribution_formula(name: str) -> None:
    # By training frequency: class 1, then 2 and 3 (equal, in their order), then 0, then 4.
    rank = {1: 0, 2: 1, 3: 2, 0: 3, 4: 4}
    direction, _, factor = name.partition("-")
    raw = []
    for j in range(5):
        place = {"forward": rank[j], "backward": 4 - rank[j], "uniform": 0}[direction]
        raw.append(float(factor or 1) ** (-place / 4))
    found = shifted_distribution(COUNTS, name)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([value / sum(raw) for value in raw], rel=1e-12)
    assert float(found.max() / found.min()) == pytest.approx(float(factor or 1))


def test_one_class_has_all_the_weight() -> None:
    assert shifted_distribution(torch.tensor([7]), "backward-50").tolist() == [1.0]


def test_expected_accuracy_is_that_of_a_set_so_distributed() -> None:
    accuracy = torch.tensor([[0.1, 0.9, 0.5, 0.4, 0.0], [1.0, 0.0, 0.3, 0.2, 0.6]], dtype=torch.float64)
    pi = shifted_distribution(COUNTS, "backward-5")
    found = expected_accuracy(accuracy, pi)
    for t in range(2):
        total = 0.0
        for j in range(5):
            total += float(pi[j]) * float(accuracy[t, j])
        assert float(found[t]) == pytest.approx(total, rel=1e-12)
    assert float(expected_accuracy(accuracy[0], pi)) == float(found[0])
    uniform = shifted_distribution(COUNTS, "uniform")
    assert float(expected_accuracy(accuracy[0], uniform)) == pytest.approx(float(accuracy[0].mean()))


def test_classes_without_test_samples_are_left_out() -> None:
    accuracy = torch.tensor([0.2, math.nan, 0.6])
    pi = torch.tensor([0.5, 0.3, 0.2])
    expected = (0.5 * 0.2 + 0.2 * 0.6) / 0.7
    assert float(expected_accuracy(accuracy, pi)) == pytest.approx(expected, rel=1e-6)
    assert math.isnan(float(expected_accuracy(torch.full((3,), math.nan), pi)))


def test_subset_is_the_largest_so_distributed() -> None:
    labels = torch.arange(5).repeat(100)[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    pi = shifted_distribution(COUNTS, "backward-10")
    chosen = shifted_subset(labels, pi, torch.Generator().manual_seed(0))
    found = torch.bincount(labels[chosen], minlength=5).tolist()
    # The released profile: floor(100 * 10^(-place / 4)).
    place = [1, 4, 3, 2, 0]
    assert found == [math.floor(100 * 10 ** (-p / 4) + 1e-6) for p in place]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    again = shifted_subset(labels, pi, torch.Generator().manual_seed(0))
    assert torch.equal(chosen, again)
    assert not torch.equal(chosen, shifted_subset(labels, pi, torch.Generator().manual_seed(1)))


def test_uniform_subset_of_a_balanced_split_is_all_of_it() -> None:
    labels = torch.arange(7).repeat(3)
    pi = shifted_distribution(torch.arange(1, 8), "uniform")
    assert shifted_subset(labels, pi, torch.Generator()).tolist() == list(range(21))


def test_subset_of_an_unbalanced_split_never_asks_for_more_than_there_is() -> None:
    labels = torch.tensor([0] * 4 + [1] * 50 + [3] * 2)
    pi = torch.tensor([0.4, 0.3, 0.2, 0.1])
    chosen = shifted_subset(labels, pi, torch.Generator())
    # s = min(4 / .4, 50 / .3, 2 / .1) = 10; class 2 has no image.
    assert torch.bincount(labels[chosen], minlength=4).tolist() == [4, 3, 0, 1]


@pytest.mark.parametrize(
    "name", ["", "back", "backward", "backward-0.5", "backward-x", "uniform-5", "forward-inf"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(LTBenchError, match="'uniform', 'forward-F' or 'backward-F'"):
        parse_shift(name)


def test_shapes_are_checked() -> None:
    with pytest.raises(LTBenchError, match="a training count a class"):
        shifted_distribution(torch.zeros(0, dtype=torch.int64), "uniform")
    with pytest.raises(LTBenchError, match="4 classes do not fit"):
        expected_accuracy(torch.zeros(4), torch.ones(3))
