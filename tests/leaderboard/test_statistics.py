"""Means and intervals against scipy.stats and against the printed t table."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lt_bench.leaderboard.statistics import estimate


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
