"""Assembling A^e, the class-balanced training set of the classifier (Breadcrumbs, (5), (7), (14)).

Snapshots that are taken whole are slices of the trail's blocks, everything else is a gather of rows;
which rows is computed with one sort, without a loop over classes. Features of earlier epochs get their
affine map in chunks that stay in the cache; those of the current snapshot need none and are only copied.

The paper's A^e holds Z^e, so a caller assembles with the snapshot of epoch e and a trail that ends
at e - 1, and pushes afterwards. The released code is one epoch behind (its newest features in
epoch e are Z^{e-1}): assemble in the same way at the end of epoch e - 1, train on it in epoch e.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.registry import ALIGNMENTS
from lt_bench.snapshots.alignment import Alignment, GatheredMoments, Moments, ViewedMoments
from lt_bench.snapshots.layout import Block
from lt_bench.snapshots.plan import fixed_length_plan
from lt_bench.snapshots.ragged import starts
from lt_bench.snapshots.selection import Rows, Surplus, select_rows
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail

# A chunk of rows: within a CPU's cache; on an accelerator long enough to fill it.
_CHUNK_BYTES = {"cpu": 2 * 2**20}
_CHUNK_BYTES_ELSEWHERE = 128 * 2**20


def assemble(
    snapshot: Snapshot,
    trail: Trail,
    *,
    alignment: str | Alignment,
    generator: torch.Generator | None,
    surplus: Surplus = "random",
) -> tuple[Tensor, Tensor]:
    """A^e: n_B features of every class, current ones first, then aligned earlier ones.

    Scale and shift are computed in float32 (float64 for float64 features). A shift alone is rounded to the
    trail's dtype, as the features were when they were stored; with a scale, only the result is.
    The current rows come first, then the earlier ones; shuffle them when training on them.

    Args:
        snapshot: Z^e.
        trail: the snapshots up to epoch e - 1.
        alignment: a name of ``ALIGNMENTS`` or an alignment.
        generator: what the draw depends on, on the CPU or the trail's device. The same seed gives
            the same draw; a CPU generator gives it on every device. None is allowed where nothing
            is random.
        surplus: how the features that do not come from whole snapshots are chosen; ``"first"``
            takes the first rows of the oldest snapshot, as the released code does.

    Returns:
        features (C * n_B, d) and labels (C * n_B,) int64, on the trail's device.

    Raises:
        LTBenchError: the trail is not of the epochs before e or does not reach back far enough,
            the snapshot is not of its data, or ``alignment`` or ``surplus`` is not as described.
    """
    align: Alignment = ALIGNMENTS.get(alignment) if isinstance(alignment, str) else alignment
    plan, epoch = trail.plan, snapshot.epoch
    trail.check(snapshot)
    if not trail.ready(epoch):
        held = trail.epochs_held
        got = f"epochs {held.start} to {held.stop - 1}" if held else "none"
        raise LTBenchError(
            f"A^e of epoch {epoch} needs snapshots of epochs {epoch - plan.max_depth + 1} to "
            f"{epoch - 1}, the trail has {got}; use class_balanced until the trail is ready"
        )
    now, before = select_rows(plan, generator, surplus, trail.device)
    whole = trail.layout.whole_classes
    current = now.classes.numel()
    drawn = current + whole.numel()
    out = torch.empty(drawn + before.classes.numel(), trail.dim, dtype=trail.dtype, device=trail.device)
    rows = starts(plan.counts).to(trail.device).index_select(0, now.classes) + now.places
    torch.index_select(snapshot.features, 0, rows, out=out[:current])
    mapping = _Mapping(snapshot, trail, align)
    mapping.whole(out[current:drawn])
    taken = mapping.drawn(out[drawn:], before)
    return out, torch.cat([now.classes, whole, taken])


def class_balanced(snapshot: Snapshot, n_b: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """n_B features of every class from Z^e alone: how the strong variant starts.

    Each feature is taken floor(n_B / n_j) times and the remainder is drawn without replacement.

    Args:
        snapshot: Z^e.
        n_b: n_B.
        generator: as in :func:`assemble`.

    Returns:
        features (C * n_B, d) in the snapshot's dtype, labels (C * n_B,) int64.

    Raises:
        LTBenchError: n_B is below 1.
    """
    plan = fixed_length_plan(snapshot.counts, 1, n_b)
    device = snapshot.features.device
    now, _ = select_rows(plan, generator, "random", device)
    rows = starts(plan.counts).to(device).index_select(0, now.classes) + now.places
    return snapshot.features.index_select(0, rows), now.classes


class _Mapping:
    """Earlier features, mapped to the current epoch in chunks.

    The features taken of one class and epoch are a *group* and share a map, which is applied by
    broadcasting it over the group's rows.
    """

    def __init__(self, snapshot: Snapshot, trail: Trail, align: Alignment) -> None:
        self.snapshot, self.trail, self.align = snapshot, trail, align
        self.counts = snapshot.counts.to(trail.device)
        self.epoch_mean = snapshot.epoch_mean[None]
        budget = _CHUNK_BYTES.get(trail.device.type, _CHUNK_BYTES_ELSEWHERE)
        self.chunk_rows = max(1, budget // max(1, trail.dim * trail.dtype.itemsize))

    def whole(self, out: Tensor) -> None:
        """Snapshots that are taken whole, in the order of memory: slices of the trail's blocks."""
        first = 0
        for block in self.trail.layout.blocks:
            shape = (block.classes.numel(), block.whole, block.size, self.trail.dim)
            rows = shape[0] * shape[1] * shape[2]
            if rows:
                self._whole_block(block, out[first : first + rows].view(shape))
                first += rows

    def _whole_block(self, block: Block, out: Tensor) -> None:
        snapshot, trail, last = self.snapshot, self.trail, self.snapshot.epoch - 1
        features, mean, std = trail.block(block)
        classes = block.classes
        count = self.counts.index_select(0, classes)[:, None]
        now_mean, now_std = (x.index_select(0, classes)[:, None] for x in (snapshot.mean, snapshot.std))
        filled = 0
        for slots in block.whole_slots(last + 1):
            into = slice(filled, filled := filled + slots.stop - slots.start)
            # The epochs that lie in the slots follow one another; so do the means of whole epochs, in a ring.
            oldest = last - (last - slots.start) % block.slots
            epochs = torch.arange(oldest, oldest + slots.stop - slots.start, device=trail.device)
            epoch_mean = trail.epoch_mean.index_select(0, epochs % len(trail.epoch_mean))
            step = max(1, self.chunk_rows // ((slots.stop - slots.start) * block.size))
            for start in range(0, len(classes), step):
                part = slice(start, start + step)
                old = ViewedMoments(count[part], mean[part, slots], std[part, slots], epoch_mean)
                new = ViewedMoments(count[part], now_mean[part], now_std[part], self.epoch_mean)
                self._map(features[part, slots], out[part, into], old, new)

    def drawn(self, out: Tensor, taken: Rows) -> Tensor:
        """Features that were chosen one by one; returns their classes.

        Groups of one size lie together, in the order of the trail's memory: the loop below runs over
        sizes, of which there are at most n_B, and chunks.
        """
        classes, trail, snapshot = taken.classes, self.trail, self.snapshot
        if classes.numel() == 0:
            return classes
        epochs = snapshot.epoch - taken.lags
        groups = trail.groups(classes, epochs)
        size_of = torch.bincount(groups, minlength=len(trail.mean)).index_select(0, groups)
        key = trail.rows(classes, taken.places, epochs).add_(size_of, alpha=len(trail.features))
        key, order = key.sort()
        rows = key.remainder_(len(trail.features))
        classes, epochs, groups = (x.index_select(0, order) for x in (classes, epochs, groups))
        epoch_rows, no_rows = epochs % len(trail.epoch_mean), torch.zeros_like(epochs)
        # Read back from the device, like the other sizes above: how many rows lie in groups of each size.
        first = 0
        for size, total in enumerate(torch.bincount(size_of).tolist()):
            step = size * max(1, self.chunk_rows // max(1, size))
            for start in range(first, first + total, step or 1):
                end = min(start + step, first + total)
                gathered = torch.index_select(trail.features, 0, rows[start:end], out=out[start:end])
                target = gathered.view(-1, size, trail.dim)
                # Every size-th row begins a group.
                one = slice(start, end, size)
                count = self.counts.index_select(0, classes[one])
                old = GatheredMoments(
                    trail.mean, trail.std, trail.epoch_mean, groups[one], epoch_rows[one], count
                )
                new = GatheredMoments(
                    snapshot.mean, snapshot.std, self.epoch_mean, classes[one], no_rows[one], count
                )
                self._map(target, target, old, new)
            first += total
        return classes

    def _map(self, source: Tensor, out: Tensor, old: Moments, new: Moments) -> None:
        """Map features (..., n, d) of groups with moments (..., d) into ``out``, which may be ``source``."""
        if source is not out:
            out.copy_(source)
        scale, shift = self.align(old, new)
        groups = (*source.shape[:-2], self.trail.dim)
        by, to = (None if x is None else x.expand(groups).unsqueeze(-2) for x in (scale, shift))
        if by is not None:
            # What a scale magnifies is not rounded before the shift takes it back.
            value = out.to(by.dtype)
            out.copy_(value.mul_(by) if to is None else torch.addcmul(to, value, by, out=value))
        elif to is not None:
            out.add_(to.to(out.dtype))
