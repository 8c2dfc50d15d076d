"""What a person means by a number: checks of those that a config gives."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lt_bench.errors import LTBenchError


def finite_number(value: float, what: str) -> float:
    """``value`` as a float, where it is a finite number from 0.

    Args:
        value: what a config gave.
        what: the argument's name for the sentence, e.g. ``"focal's gamma"``.

    Raises:
        LTBenchError: another type, NaN, infinite or below 0.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise LTBenchError(f"{what} is a finite number from 0, got {value!r}")
    return float(value)


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number from ``least``. True and False are ints to Python, to a person not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def are_numbers(value: Any) -> bool:
    """Whether it is a list or a tuple of numbers."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in value
    )


def check_seeds(seeds: Iterable[int]) -> None:
    """Refuse a negative seed.

    Raises:
        LTBenchError: there is one.
    """
    for seed in seeds:
        if seed < 0:
            raise LTBenchError(f"a seed is a whole number from 0, got {seed}")
