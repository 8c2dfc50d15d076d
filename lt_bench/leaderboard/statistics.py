"""Statistics over seeds: the mean, its 95% Student-t interval, and differences paired over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: the mean.
        half_width: half of the 95% interval's width; None for a single seed, which has no interval.
        seeds: how many values there were.
    """

    mean: float
    half_width: float | None
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval, mean ± t_{0.975, n-1} · s / sqrt(n), s with n - 1 in its denominator.

    Args:
        values: one value a seed, at least one.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    quantile = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    return Estimate(mean, quantile * math.sqrt(variance / count), count)


@dataclass(frozen=True)
class Difference:
    """How much one method scores above another, on the same seeds.

    Attributes:
        estimate: mean and 95% interval of the differences, seed by seed.
        p: two-sided p-value of Student's paired t-test; None for a single seed.
    """

    estimate: Estimate
    p: float | None


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """The paired t-test: t = mean(d) / (s_d / sqrt(n)) with n - 1 degrees of freedom.

    Differences without any spread give p = 1 where they are zero and p = 0 where they are not.

    Args:
        values: one value a seed, at least one.
        reference: the other method's, of the same seeds in the same order.
    """
    difference = estimate([ours - theirs for ours, theirs in zip(values, reference, strict=True)])
    count = difference.seeds
    if difference.half_width is None:
        return Difference(difference, None)
    if difference.half_width == 0:
        return Difference(difference, float(difference.mean == 0))
    quantile = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    t = difference.mean / (difference.half_width / quantile)
    return Difference(difference, 2 * float(stdtr(count - 1, -abs(t))))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for as many comparisons (Holm, 1979): the k-th smallest of m times m - k + 1.

    Adjusted values rise with the given ones and stay at 1 or below.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted
