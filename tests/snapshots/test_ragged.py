"""Rows of groups of different sizes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.snapshots.ragged import rows_of, starts


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_rows_of_equals_two_nested_loops(lengths: list[int]) -> None:
    group, place = rows_of(torch.tensor(lengths), sum(lengths))
    expected = [(g, i) for g, length in enumerate(lengths) for i in range(length)]
    assert list(zip(group.tolist(), place.tolist(), strict=True)) == expected


def test_starts_are_the_rows_before() -> None:
    assert starts(torch.tensor([2, 0, 3])).tolist() == [0, 2, 2]
