"""Shot groups: which classes are many-, medium- and few-shot, under the three conventions in use.

The boundaries of Liu et al. 2019 (OLTR) are 100 and 20 training samples, and public code disagrees
on which side a class with exactly 100 or 20 samples falls. The convention is therefore named, and
always applied to the counts of the very training split in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError, near_names

GROUPS = ("many", "medium", "few")
MANY, MEDIUM, FEW = range(3)


@dataclass(frozen=True)
class Convention:
    """One reading of the boundaries.

    Attributes:
        name: what configs and records call it.
        many_from: the smallest training count of a many-shot class.
        few_to: the largest training count of a few-shot class.
        text: the rule in words, t being the training count.
    """

    name: str
    many_from: int
    few_to: int
    text: str


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        convention.name: convention
        for convention in (
            # The captions of the Breadcrumb paper.
            Convention("paper", 101, 20, "many t > 100, medium 20 < t <= 100, few t <= 20"),
            # Decoupling, SADE, LIFT.
            Convention("strict", 101, 19, "many t > 100, medium 20 <= t <= 100, few t < 20"),
            # OLTR, LFME, the Breadcrumb release.
            Convention("inclusive", 100, 20, "many t >= 100, medium 20 < t < 100, few t <= 20"),
        )
    }
)


def find_convention(name: str) -> Convention:
    """The convention called ``name``.

    Raises:
        LTBenchError: there is none; the sentence names the three.
    """
    found = CONVENTIONS.get(name) if isinstance(name, str) else None
    if found is None:
        raise LTBenchError(f"unknown shot-group convention {name!r}: {near_names(str(name), CONVENTIONS)}")
    return found


def shot_groups(counts: Tensor, convention: str) -> Tensor:
    """Which shot group each class belongs to.

    Args:
        counts: (C,) integer training counts.
        convention: a name of :data:`CONVENTIONS`.

    Returns:
        (C,) int8: 0 many, 1 medium, 2 few, the order of :data:`GROUPS`.

    Raises:
        LTBenchError: an unknown convention, or counts that are not C non-negative integers.
    """
    rule = find_convention(convention)
    if counts.ndim != 1 or counts.is_floating_point() or counts.is_complex() or counts.numel() == 0:
        raise LTBenchError(
            "shot groups need one integer training count for each class, "
            f"got {counts.dtype} of shape {tuple(counts.shape)}"
        )
    if bool((counts < 0).any()):
        raise LTBenchError(
            f"shot groups need training counts of 0 or more, got {int(counts.min())} "
            f"for class {int(counts.argmin())}"
        )
    groups = torch.full_like(counts, MEDIUM, dtype=torch.int8)
    groups[counts >= rule.many_from] = MANY
    groups[counts <= rule.few_to] = FEW
    return groups


def group_sizes(counts: Tensor, convention: str) -> dict[str, int]:
    """How many classes each group has, e.g. ``{'many': 35, 'medium': 35, 'few': 30}``."""
    sizes = torch.bincount(shot_groups(counts, convention).long(), minlength=len(GROUPS)).tolist()
    return dict(zip(GROUPS, sizes, strict=True))
