"""The bread crumb trail: earlier snapshots, of each class as many as its back-tracking needs.

One preallocated ring. Class j has depth_j - 1 slots of n_j rows, in the order of :mod:`layout
<lt_bench.snapshots.layout>`; its features of epoch e' lie in slot e' mod (depth_j - 1), so pushing a
snapshot overwrites the oldest one and moves nothing.
Class-specific back-tracking keeps (K_j - 1) n_j < n_B features of a class, hence fewer than C n_B
in all, beside one mean and one deviation, of *all* n_j features, for every kept (class, epoch).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.layout import Block, layout_of
from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.ragged import rows_of, starts
from lt_bench.snapshots.snapshot import Snapshot

# Rows are copied in blocks of about this size, so that a push needs no second snapshot's memory.
_BLOCK_BYTES = 64 * 2**20

# Where rows lie in a trail that is saved; another order is another number.
_LAYOUT = 2

_TENSORS = ("features", "mean", "std", "epoch_mean")


class Trail:
    """The snapshots before the current one.

    Args:
        plan: which classes keep how many.
        dim: d.
        dtype: of the features kept; that of the snapshots.
        device: where they are kept.

    Attributes:
        features: (sum_j (depth_j - 1) n_j, d).
        mean, std: (sum_j (depth_j - 1), d), one row for every class and slot.
        epoch_mean: (max_j depth_j - 1, d), the mean of all N features of each kept epoch.
        newest: the epoch of the newest snapshot, None before the first.
        held: how many successive epochs, up to ``newest``, the deepest class has.
    """

    def __init__(self, plan: BacktrackPlan, dim: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.plan = plan
        self.dim = dim
        self.dtype = dtype
        self.device = torch.device(device)
        self.newest: int | None = None
        self.held = 0
        wide = torch.promote_types(dtype, torch.float32)
        slots, counts = plan.slots, plan.counts
        self.layout = layout_of(plan, self.device)
        self._deepest = plan.max_depth - 1
        groups = self.layout.groups
        self.features = torch.zeros(self.layout.rows, dim, dtype=dtype, device=self.device)
        self.mean = torch.zeros(groups, dim, dtype=wide, device=self.device)
        self.std = torch.zeros_like(self.mean)
        self.epoch_mean = torch.zeros(self._deepest, dim, dtype=wide, device=self.device)

        self._counts = counts.to(self.device)
        # A class without slots is never looked up; 1 keeps the modulus defined.
        self._modulus = slots.clamp(min=1).to(self.device)
        # What a push copies: the classes that keep anything, and their rows in a snapshot.
        keeping = slots > 0
        self._keeping = keeping.nonzero().flatten().to(self.device)
        kept = torch.where(keeping, counts, 0)
        owner, place = rows_of(kept, int(kept.sum()))
        self._push_class = owner.to(self.device)
        self._push_place = place.to(self.device)
        self._push_source = (starts(counts)[owner] + place).to(self.device)

    @property
    def epochs_held(self) -> range:
        """The epochs of which the deepest class has features."""
        if self.newest is None:
            return range(0)
        return range(self.newest - self.held + 1, self.newest + 1)

    def ready(self, epoch: int) -> bool:
        """Whether every class has its depth_j snapshots, counting the one of ``epoch``."""
        if self._deepest == 0:
            return True
        return self.newest == epoch - 1 and self.held >= self._deepest

    def push(self, snapshot: Snapshot) -> None:
        """Take in a snapshot; the oldest of each class gives way. The rows are copied.

        Raises:
            LTBenchError: another data set, dtype or d, or an epoch that does not follow the newest.
        """
        self.check(snapshot)
        if self.newest is not None and snapshot.epoch != self.newest + 1:
            raise LTBenchError(
                f"a trail takes successive epochs, expected a snapshot of epoch {self.newest + 1}, "
                f"got {snapshot.epoch}; push every epoch once and in order"
            )
        if self._deepest:
            epoch = snapshot.epoch
            per_block = max(1, _BLOCK_BYTES // max(1, self.dim * self.dtype.itemsize))
            for first in range(0, self._push_class.numel(), per_block):
                part = slice(first, first + per_block)
                rows = self._push_rows(epoch, part)
                source = snapshot.features.index_select(0, self._push_source[part])
                self.features.index_copy_(0, rows, source)
            groups = self.groups(self._keeping, epoch)
            self.mean.index_copy_(0, groups, snapshot.mean.index_select(0, self._keeping))
            self.std.index_copy_(0, groups, snapshot.std.index_select(0, self._keeping))
            self.epoch_mean[epoch % self._deepest] = snapshot.epoch_mean
        self.newest = snapshot.epoch
        self.held = min(self.held + 1, self._deepest)

    def check(self, snapshot: Snapshot) -> None:
        """Refuse a snapshot that cannot belong to this trail.

        Raises:
            LTBenchError: other class counts, another d, dtype or device.
        """
        if not torch.equal(snapshot.counts, self.plan.counts):
            raise LTBenchError(
                f"the snapshot of epoch {snapshot.epoch} has other class counts than the "
                "back-tracking plan; make the plan from the counts of the same training set"
            )
        dim, dtype, device = self.dim, self.dtype, self.device
        got = snapshot.features
        if got.shape[1] != dim or got.dtype != dtype or got.device.type != device.type:
            raise LTBenchError(
                f"the trail holds {dim}-d {dtype} features on {device}, the snapshot of epoch "
                f"{snapshot.epoch} has {got.shape[1]}-d {got.dtype} on {got.device}; "
                "make both from the same settings"
            )

    def block(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Views of a block: features (classes, slots, samples, d), mean and std (classes, slots, d)."""
        classes, slots = block.classes.numel(), block.slots
        rows = slice(block.first_row, block.first_row + classes * slots * block.size)
        groups = slice(block.first_group, block.first_group + classes * slots)
        return (
            self.features[rows].view(classes, slots, block.size, self.dim),
            self.mean[groups].view(classes, slots, self.dim),
            self.std[groups].view(classes, slots, self.dim),
        )

    def rows(self, classes: Tensor, places: Tensor, epochs: Tensor | int) -> Tensor:
        """Rows of ``features`` that hold the given samples.

        Args:
            classes: (M,) int64, classes with at least one slot.
            places: (M,) int64, the sample's place in its class.
            epochs: (M,) int64 or one epoch.
        """
        slot = epochs % self._modulus.index_select(0, classes)
        first = self.layout.first_row.index_select(0, classes)
        return first + slot * self._counts.index_select(0, classes) + places

    def groups(self, classes: Tensor, epochs: Tensor | int) -> Tensor:
        """Rows of ``mean`` and ``std`` of the given classes and epochs, each (M,) int64."""
        slot = epochs % self._modulus.index_select(0, classes)
        return self.layout.first_group.index_select(0, classes) + slot

    def state_dict(self) -> dict[str, Any]:
        """Four tensors, not copied, and three integers: ``newest`` (0 for none), ``held`` and ``layout``."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _TENSORS}
        return {**state, "newest": self.newest or 0, "held": self.held, "layout": _LAYOUT}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            LTBenchError: it is of a trail with another plan, d or dtype; this trail is as before.
        """
        missing = {*_TENSORS, "newest", "held", "layout"} - set(state)
        if missing or state["layout"] != _LAYOUT:
            raise LTBenchError(
                f"the saved trail has no {', '.join(sorted(missing)) or 'layout of this version'}; "
                "the checkpoint is of another version: train stage 1 again"
            )
        for name in _TENSORS:
            here, saved = getattr(self, name), state[name]
            if saved.shape != here.shape or saved.dtype != here.dtype:
                raise LTBenchError(
                    f"the saved trail's {name} is {tuple(saved.shape)} {saved.dtype}, expected "
                    f"{tuple(here.shape)} {here.dtype}; resume with the settings it was saved with"
                )
        for name in _TENSORS:
            getattr(self, name).copy_(state[name])
        self.newest = int(state["newest"]) or None
        self.held = int(state["held"])

    def _push_rows(self, epoch: int, part: slice) -> Tensor:
        return self.rows(self._push_class[part], self._push_place[part], epoch)
