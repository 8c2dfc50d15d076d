"""A snapshot Z^e: the features of the training set at one epoch (Breadcrumbs, (2) to (4)).

Rows lie in *class-sorted order*: samples sorted by label, ties in the order of the data set. So
class j is the rows from n_0 + ... + n_{j-1} on, and a sum over a class is one over neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.ragged import rows_of, starts

# The working copy in which class moments are summed; small, so that it costs no memory to speak of.
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Z^e and its class moments.

    Attributes:
        epoch: e, counted from 1.
        features: (N, d) in the captured dtype, class-sorted.
        counts: (C,) int64 on the CPU, the n_j.
        mean: (C, d), (4), over *all* n_j features; float32 (float64 where the features are).
        std: (C, d), biased (divided by n_j); exactly 0 where a dimension is constant in a class.
    """

    epoch: int
    features: Tensor
    counts: Tensor
    mean: Tensor
    std: Tensor

    @property
    def epoch_mean(self) -> Tensor:
        """(d,): the mean of all N features, i.e. the class means weighted by n_j / N."""
        weights = (self.counts.double() / self.counts.sum()).to(self.mean)
        return weights @ self.mean


def make_snapshot(epoch: int, features: Tensor, counts: Tensor) -> Snapshot:
    """A snapshot of class-sorted features, with their class moments.

    Args:
        epoch: e, counted from 1.
        features: (N, d) floating point, class-sorted; kept, not copied.
        counts: (C,) integers, every one at least 1, summing to N.

    Raises:
        LTBenchError: features and counts do not belong together, or a feature is NaN or infinite.
    """
    counts = counts.to("cpu", torch.int64)
    if features.dim() != 2 or features.shape[0] != int(counts.sum()):
        raise LTBenchError(
            f"a snapshot needs one feature a training sample, {int(counts.sum())} rows, "
            f"got shape {tuple(features.shape)}; capture the data set that was counted"
        )
    mean, std = class_moments(features, counts)
    broken = ~torch.isfinite(mean).all(dim=1).cpu()
    if bool(broken.any()):
        classes = broken.nonzero().flatten()
        raise LTBenchError(
            f"the features of epoch {epoch} are not finite in {classes.numel()} of "
            f"{counts.numel()} classes, the first class {int(classes[0])}; training diverged "
            f"(lower the learning rate) or {features.dtype} cannot hold them (capture float32)"
        )
    return Snapshot(epoch, features, counts, mean, std)


def class_moments(features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (4) and biased standard deviation of every class and dimension.

    Two passes over blocks of whole classes, in float32 (float64 for float64 features), each row
    taken relative to the first of its class: hence a dimension that is constant in a class has
    exactly that mean and a deviation of exactly 0. The sums run in a fixed order, so a repetition
    on one device gives the same bits.

    Args:
        features: (N, d), class-sorted.
        counts: (C,) int64 on the CPU, every one at least 1.

    Returns:
        mean, std, each (C, d).
    """
    wide = torch.promote_types(features.dtype, torch.float32)
    dim = features.shape[1]
    shape = (counts.numel(), dim)
    mean = torch.empty(shape, dtype=wide, device=features.device)
    std = torch.empty_like(mean)
    block_rows = max(1, _BLOCK_BYTES // max(1, dim * wide.itemsize))
    for classes, rows in _blocks(counts, block_rows):
        here = counts[classes].to(features.device)
        group, _ = rows_of(here, rows.stop - rows.start)
        first_rows = starts(here)
        block = features[rows].to(wide, copy=True)
        first = block[first_rows]
        block -= first[group]
        shift = _segment_sum(block, first_rows) / here[:, None]
        block -= shift[group]
        mean[classes] = first + shift
        std[classes] = (_segment_sum(block.square_(), first_rows) / here[:, None]).sqrt_()
    return mean, std


def training_counts(labels: Tensor, num_classes: int) -> Tensor:
    """The n_j.

    Args:
        labels: (N,) integers.
        num_classes: C.

    Returns:
        (C,) int64 on the CPU.

    Raises:
        LTBenchError: a label is outside [0, C), or a class has no sample.
    """
    labels = labels.detach().to("cpu", torch.int64)
    if labels.dim() != 1 or labels.numel() == 0:
        raise LTBenchError(
            f"labels are one integer a training sample, got shape {tuple(labels.shape)}; "
            "pass the labels of a training set that is not empty"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise LTBenchError(
            f"labels lie in [0, {num_classes}), got {low if low < 0 else high}; "
            "check num_classes and the data set's labels"
        )
    counts = torch.bincount(labels, minlength=num_classes)
    require_every_class(counts)
    return counts


def require_every_class(counts: Tensor) -> None:
    """Refuse counts in which a class is empty.

    Raises:
        LTBenchError: it names the first such class.
    """
    empty = (counts < 1).nonzero().flatten()
    if empty.numel():
        raise LTBenchError(
            f"every class needs a training sample to have features, got none for {empty.numel()} "
            f"of {counts.numel()} classes, the first of them class {int(empty[0])}; "
            "remove the class or add samples"
        )


def class_order(labels: Tensor) -> Tensor:
    """Sample indices in class-sorted order: ``labels[class_order(labels)]`` ascends.

    Args:
        labels: (N,) integers.

    Returns:
        (N,) int64.
    """
    return torch.argsort(labels, stable=True)


def labels_digest(labels: Tensor) -> str:
    """A sha256 that tells one labelling of a training set from another.

    Args:
        labels: (N,) integers, on any device.
    """
    plain = labels.detach().to("cpu", torch.int64).contiguous()
    return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).hexdigest()


def _segment_sum(rows: Tensor, first_rows: Tensor) -> Tensor:
    """Sums of neighbouring rows; group g runs from ``first_rows[g]`` to the next group's first."""
    index = torch.arange(rows.shape[0], device=rows.device)
    return F.embedding_bag(index, rows, first_rows, mode="sum")


def _blocks(counts: Tensor, block_rows: int) -> Iterator[tuple[slice, slice]]:
    """Slices (of classes, of rows) of about ``block_rows`` rows, each made of whole classes."""
    ends = counts.cumsum(0)
    total, first_class, first_row = int(ends[-1]), 0, 0
    while first_row < total:
        fitting = int(torch.searchsorted(ends, first_row + block_rows, right=True))
        last_class = max(fitting, first_class + 1)
        last_row = int(ends[last_class - 1])
        yield slice(first_class, last_class), slice(first_row, last_row)
        first_class, first_row = last_class, last_row
