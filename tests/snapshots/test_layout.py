"""Where a trail keeps its features, against a loop over classes, slots and samples."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_bench.snapshots.layout import layout_of
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan, fixed_length_plan


def plan_of(counts: list[int], length: int | None, n_b: int | None) -> BacktrackPlan:
    tensor = torch.tensor(counts)
    return class_specific_plan(tensor, n_b) if length is None else fixed_length_plan(tensor, length, n_b)


PLANS = st.builds(
    plan_of,
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 20),
)


@settings(max_examples=100, deadline=None)
@given(plan=PLANS)
def test_every_class_has_its_own_rows_and_nothing_lies_between(plan: BacktrackPlan) -> None:
    layout = layout_of(plan)
    counts, slots = plan.counts.tolist(), plan.slots.tolist()
    rows = [
        int(layout.first_row[j]) + slot * n_j + place
        for j, n_j in enumerate(counts)
        for slot in range(slots[j])
        for place in range(n_j)
    ]
    groups = [int(layout.first_group[j]) + slot for j in range(len(counts)) for slot in range(slots[j])]
    assert sorted(rows) == list(range(layout.rows))
    assert sorted(groups) == list(range(layout.groups))


@settings(max_examples=100, deadline=None)
@given(plan=PLANS)
def test_blocks_are_classes_of_one_size_in_the_order_of_memory(plan: BacktrackPlan) -> None:
    layout = layout_of(plan)
    row = group = 0
    whole = []
    for block in layout.blocks:
        assert (block.first_row, block.first_group) == (row, group)
        for j in block.classes.tolist():
            assert (int(plan.counts[j]), int(plan.slots[j])) == (block.size, block.slots)
            assert (int(layout.first_row[j]), int(layout.first_group[j])) == (row, group)
            assert block.whole == max(0, int(plan.whole[j]) - 1)
            row += block.slots * block.size
            group += block.slots
            whole += [j] * (block.whole * block.size)
    assert (row, group) == (layout.rows, layout.groups)
    assert layout.whole_classes.tolist() == whole
    listed = [j for block in layout.blocks for j in block.classes.tolist()]
    assert sorted(listed) == [j for j, kept in enumerate(plan.slots.tolist()) if kept]


@given(n_j=st.integers(1, 9), n_b=st.integers(2, 60), epoch=st.integers(1, 80))
def test_whole_slots_hold_the_newest_epochs(n_j: int, n_b: int, epoch: int) -> None:
    for block in layout_of(class_specific_plan(torch.tensor([n_j]), n_b)).blocks:
        ring = {earlier % block.slots: earlier for earlier in range(epoch - block.slots, epoch)}
        held = [ring[slot] for part in block.whole_slots(epoch) for slot in range(part.start, part.stop)]
        assert held == list(range(epoch - block.whole, epoch))
