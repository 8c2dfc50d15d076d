"""The profile and the draw against the released code's procedure, written out slowly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lt_bench.data.profile import draw_long_tail, exponential_counts
from lt_bench.errors import LTBenchError


@pytest.mark.parametrize(
    ("largest", "classes", "factor", "total"),
    [
        (500, 100, 100, 10_847),
        (500, 100, 50, 12_608),
        (500, 100, 10, 19_573),
        (5000, 10, 100, 12_406),
        (5000, 10, 50, 13_996),
        (5000, 10, 10, 20_431),
    ],
)
def test_published_sizes(largest: int, classes: int, factor: int, total: int) -> None:
    assert sum(exponential_counts(largest, factor, classes)) == total


@settings(deadline=None)
@example(largest=231, classes=2, factor=1.1)
@given(st.integers(1, 6000), st.integers(2, 300), st.floats(1, 500))
def test_profile_falls_from_largest_to_largest_over_factor(largest: int, classes: int, factor: float) -> None:
    if largest / factor < 1 + 1e-6:
        return
    counts = exponential_counts(largest, factor, classes)
    assert counts[0] == largest
    # Where the quotient is a whole number, rounding decides between two.
    smallest = largest / factor
    assert int(smallest * (1 - 1e-12)) <= counts[-1] <= int(smallest * (1 + 1e-12))
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("largest", "factor", "classes", "told"),
    [
        (500, 0.5, 10, "imbalance_factor must be 1 or more"),
        (500, float("nan"), 10, "imbalance_factor must be 1 or more"),
        (500, 10, 1, "2 classes"),
        (50, 100, 10, "no training sample"),
        (0, 20, 10, "largest is a whole number from 1 to 1000000000, got 0"),
        (50, 10**400, 10, "imbalance_factor 1000+ leaves class 9 no training sample .* use 50 or less"),
        (10**400, 20, 10, "largest is a whole number from 1 to 1000000000, got 1000"),
    ],
)
def test_profile_refuses(largest: int, factor: float, classes: int, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        exponential_counts(largest, factor, classes)


def test_draw_is_that_of_the_released_code() -> None:
    labels = np.random.default_rng(1).integers(0, 7, 900)
    counts = exponential_counts(90, 15, 7)
    state = np.random.get_state()
    np.random.seed(0)  # the released code draws from the global generator
    expected_train, expected_left = [], []
    for j in range(7):
        of_class = [i for i in range(900) if labels[i] == j]
        indices = np.array(of_class)
        np.random.shuffle(indices)
        expected_train += indices[: counts[j]].tolist()
        expected_left.append(indices[counts[j] :].tolist())
    np.random.set_state(state)
    draw = draw_long_tail(labels, counts, val_per_class=12)
    assert draw.train.tolist() == expected_train
    assert draw.val.tolist() == [i for left in expected_left for i in left[:12]]


def test_validation_does_not_alter_the_training_draw() -> None:
    labels = np.arange(100) % 4
    without = draw_long_tail(labels, [25, 12, 6, 3])
    with_val = draw_long_tail(labels, [25, 12, 6, 3], val_per_class=20)
    assert with_val.train.tolist() == without.train.tolist()
    assert len(without.val) == 0
    assert np.bincount(labels[with_val.val]).tolist() == [0, 13, 19, 20]
    assert not set(with_val.val) & set(with_val.train)


def test_draw_refuses_a_class_that_is_too_small() -> None:
    with pytest.raises(LTBenchError, match="class 1 'bee' has 10 images, the profile asks for 11"):
        draw_long_tail(np.arange(20) % 2, [10, 11], class_names=["ant", "bee"])


def test_draw_refuses_a_negative_validation_size() -> None:
    with pytest.raises(LTBenchError, match="val_per_class"):
        draw_long_tail(np.arange(20) % 2, [5, 5], val_per_class=-1)
