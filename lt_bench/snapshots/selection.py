"""Which features make up A^e: those that a plan takes in any case, and a seeded draw of the rest.

Earlier snapshots that are taken whole are not listed here: they are blocks of a trail's memory
(:mod:`lt_bench.snapshots.layout`). A class's features are numbered ``lag * n_j + place``. What a plan takes
in any case and the pools that the rest is drawn from are the same in every epoch and are worked out once;
only the draw is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.ragged import rows_of, starts

Surplus = Literal["random", "first"]

# Random bits of a sort key; the class number stands above them.
_KEY_BITS = 40
# Plans whose fixed part is kept: at the size of iNaturalist 2018 each takes some 20 MB.
_PLANS_KEPT = 4


@dataclass(frozen=True)
class Rows:
    """Features, as three (M,) int64: their class, their lag and their place in the class."""

    classes: Tensor
    lags: Tensor
    places: Tensor


def select_rows(
    plan: BacktrackPlan,
    generator: torch.Generator | None,
    surplus: Surplus,
    device: torch.device | str,
) -> tuple[Rows, Rows]:
    """Which features make up A^e: the current ones, and the earlier ones that are not of whole snapshots.

    Args:
        plan: the make-up.
        generator: of the draw; its keys are drawn on its own device.
        surplus: ``"random"``, or ``"first"`` for the pool's first features, newest snapshot first.
        device: of the result.

    Returns:
        Features of lag 0, and features of higher lags. In each of the two, first what is taken in any
        case and then what is drawn, each sorted by class, lag and place.

    Raises:
        LTBenchError: an unknown ``surplus``, or a draw without a generator.
    """
    if surplus not in ("random", "first"):
        raise LTBenchError(f"surplus is 'random' or 'first', got {surplus!r}; use one of the two")
    make_up = _make_up(plan, torch.device(device))
    drawn = _drawn(make_up, generator, surplus)
    return tuple(  # type: ignore[return-value]  # of two
        Rows(
            torch.cat([certain.classes, more.classes]),
            torch.cat([certain.lags, more.lags]),
            torch.cat([certain.places, more.places]),
        )
        for certain, more in zip(make_up.certain, drawn, strict=True)
    )


@dataclass(frozen=True)
class _MakeUp:
    """What is the same in every epoch.

    Attributes:
        certain: what is taken in any case, current and earlier, but for whole earlier snapshots.
        counts: (C,) the n_j.
        first_number: (C,) the number of a pool's first feature.
        pool_classes, pool_numbers: every feature of the pools that something is drawn from, numbered
            from the pool's first.
        drawn_classes, drawn_ranks: of each feature that is drawn, the class and which of its draws it is.
        first_of_pool: (C,) where a class's pool begins in ``pool_classes``.
    """

    certain: tuple[Rows, Rows]
    counts: Tensor
    first_number: Tensor
    pool_classes: Tensor
    pool_numbers: Tensor
    drawn_classes: Tensor
    drawn_ranks: Tensor
    first_of_pool: Tensor


@lru_cache(maxsize=_PLANS_KEPT)
def _make_up(plan: BacktrackPlan, device: torch.device) -> _MakeUp:
    counts = plan.counts.to(device)
    first_number = (plan.whole * plan.counts).to(device)
    copies = plan.copies.clamp(min=1).to(device)
    current = plan.whole.clamp(max=1) * plan.counts
    certain = current + plan.copies * plan.pool
    classes, place = rows_of(certain.to(device), int(certain.sum()))
    beyond = place - current.to(device).index_select(0, classes)
    copied = torch.div(beyond, copies.index_select(0, classes), rounding_mode="floor")
    number = torch.where(beyond < 0, place, first_number.index_select(0, classes) + copied)
    candidates = torch.where(plan.drawn > 0, plan.pool, 0)
    pool_classes, pool_numbers = rows_of(candidates.to(device), int(candidates.sum()))
    drawn_classes, drawn_ranks = rows_of(plan.drawn.to(device), int(plan.drawn.sum()))
    return _MakeUp(
        certain=_by_age(classes, number, counts),
        counts=counts,
        first_number=first_number,
        pool_classes=pool_classes,
        pool_numbers=pool_numbers,
        drawn_classes=drawn_classes,
        drawn_ranks=drawn_ranks,
        first_of_pool=starts(candidates).to(device),
    )


def _drawn(make_up: _MakeUp, generator: torch.Generator | None, surplus: Surplus) -> tuple[Rows, Rows]:
    """``drawn_j`` members of each class's pool, without replacement.

    Every member gets a random key, and those of the smallest keys in their class are taken.
    """
    classes, number = make_up.drawn_classes, make_up.drawn_ranks
    if surplus == "random" and classes.numel():
        if generator is None:
            raise LTBenchError("a random surplus needs a generator, got None; pass a seeded one")
        owner = make_up.pool_classes
        bits = torch.randint(1 << _KEY_BITS, owner.shape, generator=generator, device=generator.device)
        order = torch.argsort(bits.to(owner.device) + (owner << _KEY_BITS), stable=True)
        # Back to the order of memory, which is kind to the cache and keeps a class's lags together.
        smallest = order.index_select(0, make_up.first_of_pool.index_select(0, classes) + number)
        taken = torch.zeros(owner.shape, dtype=torch.bool, device=owner.device)
        taken.index_fill_(0, smallest, True)
        number = make_up.pool_numbers.index_select(0, taken.nonzero().flatten())
    number = make_up.first_number.index_select(0, classes) + number
    return _by_age(classes, number, make_up.counts)


def _by_age(classes: Tensor, number: Tensor, counts: Tensor) -> tuple[Rows, Rows]:
    """Numbered features as those of lag 0 and those of higher lags, in their order."""
    sizes = counts.index_select(0, classes)
    current = number < sizes
    now, before = current.nonzero().flatten(), current.logical_not_().nonzero().flatten()
    places = number.index_select(0, now)
    recent = Rows(classes.index_select(0, now), torch.zeros_like(places), places)
    classes, number, sizes = (x.index_select(0, before) for x in (classes, number, sizes))
    lags = torch.div(number, sizes, rounding_mode="floor")
    return recent, Rows(classes, lags, number - lags * sizes)
