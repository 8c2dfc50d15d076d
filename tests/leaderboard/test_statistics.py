"""Means and intervals against scipy.stats and against the printed t table."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lt_bench.leaderboard.statistics import estimate, holm, paired_difference


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=12))
def test_equals_scipy(values):
    found = estimate(values)
    mean = sum(values) / len(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values) or 1e-300)
    assert found.mean == pytest.approx(mean)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6, abs=1e-9)
    assert found.seeds == len(values)


def test_five_seeds_by_hand():
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    # t_{0.975, 4} = 2.776 in any table; s = sqrt(2.5)
    assert found.half_width == pytest.approx(2.776 * (2.5 / 5) ** 0.5, abs=1e-3)


def test_one_seed_has_no_interval():
    assert estimate([42.0]).half_width is None
    assert estimate([42.0, 42.0]).half_width == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=8))
def test_paired_difference_equals_scipy(pairs):
    ours, theirs = (list(values) for values in zip(*pairs, strict=True))
    found = paired_difference(ours, theirs)
    assert found.estimate == estimate([a - b for a, b in pairs])
    if found.estimate.half_width > 1e-6:
        assert found.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-4, abs=1e-12)


def test_differences_without_spread():
    assert paired_difference([3.0, 4.0], [1.0, 2.0]).p == 0.0
    assert paired_difference([3.0, 4.0], [3.0, 4.0]).p == 1.0
    assert paired_difference([3.0], [1.0]).p is None


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_against_its_definition(p_values):
    """Hypothesis i is rejected at level a iff every smaller-ranked one is and p_(k) <= a / (m - k + 1)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    expected = [0.0] * len(p_values)
    for rank, i in enumerate(order):
        steps = [p_values[j] * (len(p_values) - k) for k, j in enumerate(order[: rank + 1])]
        expected[i] = min(1.0, max(steps))
    assert holm(p_values) == pytest.approx(expected)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
