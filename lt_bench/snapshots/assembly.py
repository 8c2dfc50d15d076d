"""Assembling A^e, the class-balanced training set of the classifier (Breadcrumbs, (5), (7), (14)).

Everything is a gather of rows. Which rows is computed with one sort, without a loop over classes;
the rows of earlier epochs then get their affine map in chunks that stay in the cache. Rows of the
current snapshot need no map and are only copied.

The paper's A^e holds Z^e, so a caller assembles with the snapshot of epoch e and a trail that ends
at e - 1, and pushes afterwards. The released code is one epoch behind (its newest features in
epoch e are Z^{e-1}): assemble in the same way at the end of epoch e - 1, train on it in epoch e.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.registry import ALIGNMENTS
from lt_bench.snapshots.alignment import Alignment, Moments
from lt_bench.snapshots.plan import fixed_length_plan
from lt_bench.snapshots.ragged import starts
from lt_bench.snapshots.selection import Rows, Surplus, select_rows
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail

# A chunk of rows in float32: within a CPU's shared cache; on an accelerator long enough to fill it.
_CHUNK_BYTES = {"cpu": 4 * 2**20}
_CHUNK_BYTES_ELSEWHERE = 128 * 2**20


def assemble(
    snapshot: Snapshot,
    trail: Trail,
    *,
    alignment: str | Alignment,
    generator: torch.Generator | None,
    surplus: Surplus = "random",
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A^e: n_B features of every class, current ones first, then aligned earlier ones.

    The map is computed in float32 and rounded once, to the trail's dtype (float64 stays float64).
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
        out: (C * n_B, d) of the trail's dtype and device to write to; None allocates it.

    Returns:
        features (C * n_B, d) and labels (C * n_B,) int64, on the trail's device.

    Raises:
        LTBenchError: the trail is not of the epochs before e or does not reach back far enough,
            the snapshot is not of its data, or ``alignment``, ``surplus`` or ``out`` is not as
            described.
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
    current = now.classes.numel()
    total = current + before.classes.numel()
    shape = (total, trail.dim)
    if out is None:
        out = torch.empty(shape, dtype=trail.dtype, device=trail.device)
    elif out.shape != shape or out.dtype != trail.dtype or not out.is_contiguous():
        raise LTBenchError(
            f"out must be a contiguous {shape} {trail.dtype}, got {tuple(out.shape)} {out.dtype}; "
            "allocate it for this plan"
        )
    rows = starts(plan.counts).to(trail.device).index_select(0, now.classes) + now.places
    torch.index_select(snapshot.features, 0, rows, out=out[:current])
    earlier = _gather_aligned(out[current:], snapshot, trail, align, before)
    return out, torch.cat([now.classes, earlier])


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


def _gather_aligned(
    out: Tensor,
    snapshot: Snapshot,
    trail: Trail,
    align: Alignment,
    taken: Rows,
) -> Tensor:
    """Earlier features, mapped to the current epoch, into ``out``; returns their classes.

    The features taken of one class and epoch are a *group* and share a map. Groups of one size lie
    together, in the order of the trail's memory: so a map is applied by broadcasting it over the
    group's rows, and the loop below runs over sizes, of which there are at most n_B, and chunks.
    """
    classes = taken.classes
    if classes.numel() == 0:
        return classes
    device, dim = trail.device, trail.dim
    epochs = snapshot.epoch - taken.lags
    held = trail.groups(classes, epochs)
    size_of = torch.bincount(held, minlength=len(trail.mean)).index_select(0, held)
    key = trail.rows(classes, taken.places, epochs).add_(size_of, alpha=len(trail.features))
    key, order = key.sort()
    rows = key.remainder_(len(trail.features))
    classes, epochs, held = (x.index_select(0, order) for x in (classes, epochs, held))
    counts = snapshot.counts.to(device).index_select(0, classes)
    epoch_slots = epochs % len(trail.epoch_mean)
    the_epoch = torch.zeros_like(classes)
    epoch_mean = snapshot.epoch_mean[None]

    wide = snapshot.mean.dtype
    budget = _CHUNK_BYTES.get(device.type, _CHUNK_BYTES_ELSEWHERE)
    chunk_rows = max(1, budget // max(1, dim * wide.itemsize))
    # Read back from the device, like the other sizes above: how many rows lie in groups of each size.
    rows_by_size = torch.bincount(size_of).tolist()
    work = torch.empty(max(chunk_rows, len(rows_by_size)), dim, dtype=wide, device=device)
    first = 0
    for size, total in enumerate(rows_by_size):
        step = size * max(1, chunk_rows // max(1, size))
        for start in range(first, first + total, step or 1):
            end = min(start + step, first + total)
            block = out[start:end]
            torch.index_select(trail.features, 0, rows[start:end], out=block)
            # Every size-th row begins a group.
            one = slice(start, end, size)
            scale, shift = align(
                Moments(trail.mean, trail.std, trail.epoch_mean, held, epoch_slots, counts, one),
                Moments(snapshot.mean, snapshot.std, epoch_mean, classes, the_epoch, counts, one),
            )
            if scale is None and shift is None:
                continue
            value = work[: end - start].copy_(block)
            by_group = value.view(-1, size, dim)
            wide_of = [None if x is None else x.expand(len(by_group), dim)[:, None] for x in (scale, shift)]
            if wide_of[0] is not None and wide_of[1] is not None:
                # One pass over the chunk in the place of two.
                torch.addcmul(wide_of[1], by_group, wide_of[0], out=by_group)
            elif wide_of[0] is not None:
                by_group.mul_(wide_of[0])
            elif wide_of[1] is not None:
                by_group.add_(wide_of[1])
            block.copy_(value)
        first += total
    return classes
