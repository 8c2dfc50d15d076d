"""Streams are repeatable, distinct and uniform."""

from __future__ import annotations

import numpy as np

from lt_bench.data.random_keys import random_keys
from lt_bench.seeding import derive_seed


def _splitmix_slowly(seed: int, counters: list[int]) -> int:
    """The same mixing in Python's integers."""
    mask, key = 2**64 - 1, seed
    for counter in counters:
        key ^= (counter + 1) * 0x9E3779B97F4A7C15 & mask
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & mask
        key = (key ^ (key >> 27)) * 0x94D049BB133111EB & mask
        key ^= key >> 31
    return key


def test_keys_equal_the_slow_oracle() -> None:
    seed = derive_seed("test", 3)
    rows, columns = np.arange(5)[:, None], np.arange(7)[None]
    expected = [[_splitmix_slowly(seed, [i, j]) for j in range(7)] for i in range(5)]
    assert random_keys(seed, rows, columns).tolist() == expected


def test_keys_of_neighbouring_seeds_are_uniform_and_unrelated() -> None:
    count = 100_000
    first, second = (random_keys(derive_seed("u", s), np.arange(count)) / 2.0**64 for s in (0, 1))
    for sample in (first, second):
        bins = np.bincount((sample * 100).astype(int), minlength=100)
        chi_square = float(((bins - count / 100) ** 2 / (count / 100)).sum())
        assert 40 < chi_square < 170  # 99 degrees of freedom
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
