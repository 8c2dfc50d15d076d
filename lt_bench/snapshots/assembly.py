"""Assembling A^e, the class-balanced training set of the classifier (Breadcrumbs, (5), (7), (14)).

Everything is a gather of rows. Which rows is computed with one sort, without a loop over classes;
the rows of earlier epochs then get their affine map in chunks that stay in the cache. Rows of the
current snapshot need no map and are only copied.

The paper's A^e holds Z^e, so a caller assembles with the snapshot of epoch e and a trail that ends
at e - 1, and pushes afterwards. The released code is one epoch behind (its newest features in
epoch e are Z^{e-1}): assemble in the same way at the end of epoch e - 1, train on it in epoch e.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.registry import ALIGNMENTS
from lt_bench.snapshots.alignment import Alignment, Moments
from lt_bench.snapshots.plan import BacktrackPlan, fixed_length_plan
from lt_bench.snapshots.ragged import rows_of, starts
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail

Surplus = Literal["random", "first"]

# A chunk of rows in float32: within a CPU's shared cache; on an accelerator long enough to fill it.
_CHUNK_BYTES = {"cpu": 4 * 2**20}
_CHUNK_BYTES_ELSEWHERE = 128 * 2**20
# Random bits of a sort key; the class number stands above them.
_KEY_BITS = 40


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
    The rows come in the order of :func:`select_rows`; shuffle them when training on them.

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
    classes, lags, places = select_rows(plan, generator, surplus, trail.device)
    total = classes.numel()
    shape = (total, trail.dim)
    if out is None:
        out = torch.empty(shape, dtype=trail.dtype, device=trail.device)
    elif out.shape != shape or out.dtype != trail.dtype or not out.is_contiguous():
        raise LTBenchError(
            f"out must be a contiguous {shape} {trail.dtype}, got {tuple(out.shape)} {out.dtype}; "
            "allocate it for this plan"
        )
    first_row = starts(plan.counts).to(trail.device)
    current = int((lags == 0).sum())
    now = slice(0, current)
    torch.index_select(snapshot.features, 0, first_row[classes[now]] + places[now], out=out[now])
    before = slice(current, total)
    _gather_aligned(out[before], snapshot, trail, align, classes[before], lags[before], places[before])
    return out, classes


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
    classes, _, places = select_rows(plan, generator, "random", device)
    rows = starts(plan.counts).to(device)[classes] + places
    return snapshot.features.index_select(0, rows), classes


def select_rows(
    plan: BacktrackPlan,
    generator: torch.Generator | None,
    surplus: Surplus,
    device: torch.device | str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Which features make up A^e, as (class, lag, place in the class).

    Args:
        plan: the make-up.
        generator: of the draw; its keys are drawn on its own device.
        surplus: ``"random"``, or ``"first"`` for the pool's first features, newest snapshot first.
        device: of the result.

    Returns:
        Three (C * n_B,) int64: all of lag 0, then the others. In each of the two, first what is taken
        in any case and then what is drawn, each sorted by class, lag and place.

    Raises:
        LTBenchError: an unknown ``surplus``, or a draw without a generator.
    """
    if surplus not in ("random", "first"):
        raise LTBenchError(f"surplus is 'random' or 'first', got {surplus!r}; use one of the two")
    counts = plan.counts.to(device)
    whole_rows = (plan.whole * plan.counts).to(device)
    copies = plan.copies.clamp(min=1).to(device)
    # A class's features are numbered lag * n_j + place. Those that are taken in any case:
    certain = plan.whole * plan.counts + plan.copies * plan.pool
    classes, number = rows_of(certain.to(device), int(certain.sum()))
    base = whole_rows[classes]
    number = torch.where(number < base, number, base + (number - base) // copies[classes])
    drawn_classes, drawn_number = _draw(plan, generator, surplus, device)
    classes = torch.cat([classes, drawn_classes])
    number = torch.cat([number, whole_rows[drawn_classes] + drawn_number])
    lags = number // counts[classes]
    places = number - lags * counts[classes]

    now = lags == 0
    order = torch.cat([now.nonzero(), (~now).nonzero()]).flatten()
    return classes[order], lags[order], places[order]


def _draw(
    plan: BacktrackPlan,
    generator: torch.Generator | None,
    surplus: Surplus,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """``drawn_j`` members of each class's pool, without replacement.

    Every member gets a random key, and those of the smallest keys in their class are taken.
    """
    drawn = plan.drawn
    total = int(drawn.sum())
    classes, rank = rows_of(drawn.to(device), total)
    if surplus == "first" or total == 0:
        return classes, rank
    if generator is None:
        raise LTBenchError("a random surplus needs a generator, got None; pass a seeded one")
    candidates = torch.where(drawn > 0, plan.pool, 0)
    size = int(candidates.sum())
    owner, number = rows_of(candidates.to(device), size)
    bits = torch.randint(1 << _KEY_BITS, (size,), generator=generator, device=generator.device)
    order = torch.argsort(bits.to(device) + (owner << _KEY_BITS), stable=True)
    # Back to the order of memory, which is kind to the cache and keeps a class's lags together.
    taken = torch.zeros(size, dtype=torch.bool, device=device)
    taken[order[starts(candidates).to(device)[classes] + rank]] = True
    return classes, number[taken]


def _gather_aligned(
    out: Tensor,
    snapshot: Snapshot,
    trail: Trail,
    align: Alignment,
    classes: Tensor,
    lags: Tensor,
    places: Tensor,
) -> None:
    """Earlier features, mapped to the current epoch, into ``out``."""
    total = classes.numel()
    if total == 0:
        return
    device = trail.device
    epochs = snapshot.epoch - lags
    rows = trail.rows(classes, places, epochs)
    # Neighbouring rows of one class and epoch share a map, which is computed once for each group.
    new_group = torch.ones(total, dtype=torch.bool, device=device)
    new_group[1:] = (classes[1:] != classes[:-1]).logical_or_(lags[1:] != lags[:-1])
    firsts = new_group.nonzero().flatten()
    group = new_group.cumsum(0).sub_(1)
    group_classes, group_epochs = classes[firsts], epochs[firsts]
    counts = snapshot.counts.to(device)[group_classes]
    old = Moments(
        trail.mean,
        trail.std,
        trail.groups(group_classes, group_epochs),
        trail.epoch_mean,
        group_epochs % trail.epoch_mean.shape[0],
        counts,
    )
    new = Moments(
        snapshot.mean,
        snapshot.std,
        group_classes,
        snapshot.epoch_mean[None],
        torch.zeros_like(group_classes),
        counts,
    )

    wide = snapshot.mean.dtype
    budget = _CHUNK_BYTES.get(device.type, _CHUNK_BYTES_ELSEWHERE)
    chunk = max(1, min(total, budget // max(1, trail.dim * wide.itemsize)))
    edges = [*range(0, total, chunk), total]
    # The one synchronisation: where each chunk's groups begin and end.
    first_groups = group[edges[:-1]].tolist()
    last_groups = group[[edge - 1 for edge in edges[1:]]].tolist()
    work = torch.empty(2, chunk, trail.dim, dtype=wide, device=device)
    for i, (low, high) in enumerate(zip(first_groups, last_groups, strict=True)):
        start, end = edges[i], edges[i + 1]
        part = slice(low, high + 1)
        block = out[start:end]
        torch.index_select(trail.features, 0, rows[start:end], out=block)
        scale, shift = align(replace(old, part=part), replace(new, part=part))
        if scale is None and shift is None:
            continue
        index = group[start:end].sub_(low)
        shape = (high + 1 - low, trail.dim)
        value, other = work[0, : end - start], work[1, : end - start]
        if scale is None:
            value.copy_(block)
        else:
            torch.index_select(scale.expand(shape), 0, index, out=value)
            value.mul_(block)
        if shift is not None:
            value.add_(torch.index_select(shift.expand(shape), 0, index, out=other))
        block.copy_(value)
