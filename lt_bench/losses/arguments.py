"""Checks of the numbers that a loss is configured with."""

from __future__ import annotations

import math

from lt_bench.errors import LTBenchError


def finite_number(value: float, least: float, what: str) -> float:
    """``value`` as a float, where it is a finite number from ``least``.

    Args:
        value: what a config gave.
        least: the smallest that is allowed.
        what: the argument's name for the sentence, e.g. ``"focal's gamma"``.

    Raises:
        LTBenchError: another type, NaN, infinite or below ``least``.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        raise LTBenchError(f"{what} is a finite number from {least:g}, got {value!r}")
    return float(value)
