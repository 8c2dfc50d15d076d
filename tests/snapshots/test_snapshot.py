"""Class moments (4) against loops in float64, and what a snapshot refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.snapshots import snapshot as module
from lt_bench.snapshots.snapshot import (
    class_moments,
    class_order,
    labels_digest,
    make_snapshot,
    training_counts,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def slow_moments(features: torch.Tensor, counts: list[int]) -> tuple[list, list]:
    rows = features.double().tolist()
    means, deviations, first = [], [], 0
    for count in counts:
        own = rows[first : first + count]
        first += count
        mean = [math.fsum(row[k] for row in own) / count for k in range(features.shape[1])]
        means.append(mean)
        deviations.append(
            [
                math.sqrt(math.fsum((row[k] - mean[k]) ** 2 for row in own) / count)
                for k in range(features.shape[1])
            ]
        )
    return means, deviations


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    dtype=st.sampled_from(DTYPES),
    offset=st.sampled_from([0.0, 3.0, -1000.0]),
    seed=st.integers(0, 2**31),
)
def test_moments_equal_a_loop_in_float64(counts, dtype, offset, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = (torch.randn(sum(counts), 5, generator=generator) + offset).to(dtype)
    mean, std = class_moments(features, torch.tensor(counts))
    expected_mean, expected_std = slow_moments(features, counts)
    assert mean.dtype == std.dtype == torch.promote_types(dtype, torch.float32)
    close = {"rtol": 2e-6, "atol": 2e-6}
    torch.testing.assert_close(mean.double(), torch.tensor(expected_mean).double(), **close)
    torch.testing.assert_close(std.double(), torch.tensor(expected_std, dtype=torch.float64), **close)


@pytest.mark.parametrize("block_bytes", [1, 200, 10_000])
def test_moments_do_not_depend_on_the_block(block_bytes, monkeypatch) -> None:
    counts = torch.tensor([7, 1, 300, 2, 40])
    features = torch.randn(350, 6, generator=torch.Generator().manual_seed(0))
    whole = class_moments(features, counts)
    monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
    blocked = class_moments(features, counts)
    assert torch.equal(whole[0], blocked[0]) and torch.equal(whole[1], blocked[1])


@pytest.mark.parametrize("value", [0.1, 1e-3, 517.3, -60000.0])
def test_a_constant_dimension_has_its_value_as_mean_and_no_deviation(value) -> None:
    """Summed as they are, 5,000 equal float32 values do not average to themselves."""
    features = torch.full((5003, 2), value)
    mean, std = class_moments(features, torch.tensor([5000, 3]))
    assert torch.equal(mean, torch.full((2, 2), value))
    assert torch.equal(std, torch.zeros(2, 2))


def test_moments_leave_the_features_alone() -> None:
    features = torch.randn(10, 3)
    before = features.clone()
    class_moments(features, torch.tensor([4, 6]))
    assert torch.equal(features, before)


def test_epoch_mean_is_the_mean_of_all_features() -> None:
    features = torch.randn(12, 4, dtype=torch.float64)
    snapshot = make_snapshot(1, features, torch.tensor([1, 3, 8]))
    torch.testing.assert_close(snapshot.epoch_mean, features.mean(0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite_are_refused(bad) -> None:
    features = torch.zeros(6, 3)
    features[4, 1] = bad
    with pytest.raises(LTBenchError, match=r"epoch 7 are not finite in 1 of 3 classes.*class 1"):
        make_snapshot(7, features, torch.tensor([2, 3, 1]))


def test_half_precision_overflow_is_refused_and_names_the_way_out() -> None:
    features = torch.full((2, 2), 70000.0).half()
    with pytest.raises(LTBenchError, match="capture float32"):
        make_snapshot(1, features, torch.tensor([2]))


def test_a_wrong_number_of_rows_is_refused() -> None:
    with pytest.raises(LTBenchError, match="5 rows, got shape"):
        make_snapshot(1, torch.zeros(4, 2), torch.tensor([2, 3]))


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 1, 3], r"lie in \[0, 3\), got 3"),
        ([0, -1, 2], r"lie in \[0, 3\), got -1"),
        ([0, 0, 2], r"none for 1 of 3 classes, the first of them class 1"),
        ([], "training set that is not empty"),
    ],
)
def test_bad_labels_are_refused(labels, sentence) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        training_counts(torch.tensor(labels, dtype=torch.int64), 3)


def test_class_order_is_stable() -> None:
    assert class_order(torch.tensor([1, 0, 1, 0])).tolist() == [1, 3, 0, 2]


def test_labels_digest_tells_labellings_apart_and_ignores_their_integer_type() -> None:
    labels = torch.tensor([0, 1, 1])
    assert labels_digest(labels) == labels_digest(labels.to(torch.int16))
    assert labels_digest(labels) != labels_digest(torch.tensor([1, 0, 1]))
