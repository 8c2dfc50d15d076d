"""How a trail lies in memory: classes of one size side by side.

Classes that have as many samples and keep as many snapshots form a *block*: (classes, slots, samples, d),
without gaps. What A^e takes of a block in any case is then a slice of it, copied without looking up a row.
There are at most as many blocks as class sizes below n_B (class-specific), however many classes there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.ragged import starts


@dataclass(frozen=True, eq=False)
class Block:
    """Classes of one size and depth.

    Attributes:
        classes: (c,) int64 on the trail's device, ascending.
        size: n_j of each.
        slots: earlier snapshots kept of each, at least 1.
        whole: how many of them A^e takes entirely: lags 1 to ``whole``.
        first_row: where its features begin in a trail.
        first_group: where its moments begin, one row for every class and slot.
    """

    classes: Tensor
    size: int
    slots: int
    whole: int
    first_row: int
    first_group: int

    def whole_slots(self, epoch: int) -> list[slice]:
        """The slots of epochs ``epoch - whole`` to ``epoch - 1``: two slices where they wrap around."""
        first = (epoch - self.whole) % self.slots
        end = first + self.whole
        parts = [slice(first, min(end, self.slots)), slice(0, end - self.slots)]
        return [part for part in parts if part.stop > part.start]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where every class of a plan lies.

    Attributes:
        blocks: in the order of memory.
        first_row: (C,) int64 on the trail's device, a class's first feature.
        first_group: (C,) int64, its first row of moments.
        rows: features in all.
        groups: rows of moments in all.
        whole_classes: (M,) int64, the classes of what A^e takes in any case, in the order of memory.
    """

    blocks: list[Block]
    first_row: Tensor
    first_group: Tensor
    rows: int
    groups: int
    whole_classes: Tensor


def layout_of(plan: BacktrackPlan, device: torch.device | str = "cpu") -> Layout:
    """The layout of a plan's trail on ``device``."""
    counts, slots = plan.counts, plan.slots
    whole = (plan.whole - 1).clamp(min=0)
    table = torch.stack([slots, counts, whole], dim=1)
    kinds, kind = torch.unique(table, dim=0, return_inverse=True)
    order = torch.argsort(kind, stable=True)
    first_row, first_group = torch.empty_like(counts), torch.empty_like(counts)
    first_row[order] = starts((slots * counts)[order])
    first_group[order] = starts(slots[order])
    blocks = []
    for classes, (kept, size, taken) in zip(
        order.split(torch.bincount(kind).tolist()), kinds.tolist(), strict=True
    ):
        if kept:
            first = int(classes[0])
            where = int(first_row[first]), int(first_group[first])
            blocks.append(Block(classes.to(device), size, kept, taken, *where))
    taken_whole = (whole * counts)[order]
    return Layout(
        blocks=blocks,
        first_row=first_row.to(device),
        first_group=first_group.to(device),
        rows=int((slots * counts).sum()),
        groups=int(slots.sum()),
        whole_classes=torch.repeat_interleave(order, taken_whole).to(device),
    )
