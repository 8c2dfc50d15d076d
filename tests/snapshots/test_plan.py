"""Back-tracking lengths against loops over classes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.plan import class_specific_plan, fixed_length_plan

COUNTS = st.lists(st.integers(1, 300), min_size=1, max_size=12)


@given(counts=COUNTS, n_b=st.none() | st.integers(1, 400))
def test_class_specific_is_equation_14(counts: list[int], n_b: int | None) -> None:
    plan = class_specific_plan(torch.tensor(counts), n_b)
    target = math.ceil(sum(counts) / len(counts)) if n_b is None else n_b
    assert plan.n_b == target
    for j, n_j in enumerate(counts):
        k_j = math.ceil(target / n_j)
        taken_whole = (k_j - 1) * n_j
        from_oldest = target - taken_whole
        assert plan.depth[j] == k_j
        assert plan.whole[j] == k_j - 1
        assert plan.pool[j] == n_j
        assert 1 <= from_oldest <= n_j
        assert plan.copies[j] * n_j + plan.drawn[j] == from_oldest
        assert plan.slots[j] * n_j < target
    assert plan.max_depth == math.ceil(target / min(counts))


@given(counts=COUNTS, length=st.integers(1, 12), n_b=st.none() | st.integers(1, 400))
def test_fixed_length_draws_from_the_newest_snapshots(counts, length, n_b) -> None:
    plan = fixed_length_plan(torch.tensor(counts), length, n_b)
    for j, n_j in enumerate(counts):
        pool = length * n_j
        assert plan.depth[j] == length and plan.whole[j] == 0
        assert plan.copies[j] == plan.n_b // pool
        assert plan.drawn[j] == plan.n_b % pool
        assert plan.copies[j] * pool + plan.drawn[j] == plan.n_b


@pytest.mark.parametrize(("n_j", "depth", "drawn"), [(99, 2, 1), (100, 1, 0), (101, 1, 100)])
def test_a_class_around_n_b(n_j: int, depth: int, drawn: int) -> None:
    plan = class_specific_plan(torch.tensor([n_j]), 100)
    assert (int(plan.depth), int(plan.drawn)) == (depth, drawn)


def test_imagenet_lt_takes_116_features_a_class_and_24_epochs() -> None:
    """115,846 images of 1,000 classes, the smallest of 5 images."""
    counts = torch.full((1000,), 5)
    counts[:90] = 1221
    counts[90] = 115_846 - int(counts.sum()) + 5
    plan = class_specific_plan(counts)
    assert plan.n_b == 116 and plan.max_depth == 24
    assert class_specific_plan(counts, 117).max_depth == 24


def test_equal_plans_are_one_dictionary_key() -> None:
    counts = torch.tensor([9, 4, 1])
    assert class_specific_plan(counts) == class_specific_plan(counts.to(torch.int32), 5)
    assert len({class_specific_plan(counts), class_specific_plan(counts, 5)}) == 1
    others = {
        class_specific_plan(counts, 6),
        class_specific_plan(torch.tensor([9, 3, 2])),
        fixed_length_plan(counts, 3),
        fixed_length_plan(counts, 4),
        class_specific_plan(counts),
    }
    assert len(others) == len({plan.key for plan in others}) == 5
    assert class_specific_plan(counts) != "a name"


def test_a_plan_keeps_its_own_counts() -> None:
    counts = torch.tensor([3, 2])
    plan = class_specific_plan(counts)
    counts[0] = 99
    assert plan.counts.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: class_specific_plan(torch.tensor([3, 0, 2])), "the first of them class 1"),
        (lambda: class_specific_plan(torch.tensor([3]), 0), "n_B is at least 1"),
        (lambda: fixed_length_plan(torch.tensor([3]), 0), "at least 1 snapshot, got 0"),
        (lambda: class_specific_plan(torch.tensor([])), "one integer a class"),
        (lambda: fixed_length_plan(torch.tensor([[1]]), 1), "one integer a class"),
    ],
)
def test_bad_plans_are_refused(make, sentence: str) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        make()
