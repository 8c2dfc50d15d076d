"""How far back each class reaches: the K_j of (14) (Breadcrumbs, section 3.4).

A plan says for every class how many snapshots it uses (``depth``), how many of them are taken whole
(``whole``), and that the rest of its n_B features comes from the remaining, older ones. It depends
on the training counts only and is shared by all epochs.

Two slips of the paper's (14): the oldest snapshot of class j is that of epoch e - (K_j - 1), and
n_B - (K_j - 1) n_j of its features are drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.snapshot import require_every_class


@dataclass(frozen=True, eq=False)
class BacktrackPlan:
    """The make-up of A^e, class by class. Two plans are equal when they ask for the same features.

    *Lag* k means the snapshot of epoch e - k. Class j takes lags 0 to ``whole_j`` - 1 entirely; its
    *pool* is lags ``whole_j`` to ``depth_j`` - 1, from which it takes every feature ``copies_j``
    times and a further ``drawn_j`` features without replacement.

    Attributes:
        kind: ``"class_specific"`` or ``"fixed_length"``.
        counts: (C,) int64, the n_j; all tensors lie on the CPU.
        depth: (C,) int64, snapshots in use, the current one included; K_j where class-specific.
        whole: (C,) int64.
        n_b: features a class.
        key: a short name that is equal for equal plans, in every process.
    """

    kind: str
    counts: Tensor
    depth: Tensor
    whole: Tensor
    n_b: int
    key: str = field(init=False)

    def __post_init__(self) -> None:
        table = torch.stack([self.counts, self.depth, self.whole]).contiguous()
        digest = hashlib.sha256(table.view(torch.uint8).numpy().tobytes()).hexdigest()
        object.__setattr__(self, "key", f"{self.kind}-nb{self.n_b}-{digest[:16]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BacktrackPlan) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.counts.numel()

    @property
    def max_depth(self) -> int:
        """Snapshots that the deepest class uses; A^e exists from epoch ``max_depth`` on."""
        return int(self.depth.max())

    @property
    def slots(self) -> Tensor:
        """(C,) int64: earlier snapshots kept of each class."""
        return self.depth - 1

    @property
    def pool(self) -> Tensor:
        """(C,) int64: features to choose from beyond those taken whole."""
        return (self.depth - self.whole) * self.counts

    @property
    def copies(self) -> Tensor:
        """(C,) int64: how often every feature of the pool is taken."""
        return (self.n_b - self.whole * self.counts) // self.pool

    @property
    def drawn(self) -> Tensor:
        """(C,) int64: features drawn from the pool besides, fewer than the pool has."""
        return (self.n_b - self.whole * self.counts) % self.pool


def class_specific_plan(counts: Tensor, n_b: int | None = None) -> BacktrackPlan:
    """(14): each class reaches back as far as it needs, K_j = ceil(n_B / n_j).

    The newest K_j - 1 snapshots are taken whole and n_B - (K_j - 1) n_j features come from the
    oldest. A class with n_j >= n_B has K_j = 1: n_B of its n_j current features.

    Args:
        counts: (C,) the training counts n_j, every one at least 1.
        n_b: n_B; None for ceil(N / C), which keeps the classifier's pace that of the embedding.

    Raises:
        LTBenchError: a class without a sample, or n_B below 1.
    """
    counts = _checked(counts)
    n_b = _target(counts, n_b)
    depth = -(-n_b // counts)
    return BacktrackPlan("class_specific", counts, depth, depth - 1, n_b)


def fixed_length_plan(counts: Tensor, length: int, n_b: int | None = None) -> BacktrackPlan:
    """Every class draws n_B features from ``length`` snapshots ("+ back-tracking" of Table 1).

    Where a class's pool of length * n_j features is smaller than n_B, all of it is taken
    floor(n_B / pool) times and the remainder is drawn without replacement: class-balanced sampling
    of that pool. ``length=1`` is class-balanced sampling of Z^e itself.

    Args:
        counts: (C,) the training counts n_j, every one at least 1.
        length: snapshots in use, the current one included.
        n_b: n_B; None for ceil(N / C).

    Raises:
        LTBenchError: a class without a sample, or a length or n_B below 1.
    """
    counts = _checked(counts)
    if length < 1:
        raise LTBenchError(f"a back-tracking length is at least 1 snapshot, got {length}; raise it")
    depth = torch.full_like(counts, length)
    whole = torch.zeros_like(counts)
    return BacktrackPlan("fixed_length", counts, depth, whole, _target(counts, n_b))


def _checked(counts: Tensor) -> Tensor:
    counts = counts.detach().to("cpu", torch.int64).clone()
    if counts.dim() != 1 or counts.numel() == 0:
        raise LTBenchError(
            f"counts are one integer a class, got shape {tuple(counts.shape)}; "
            "pass the training counts of a data set with at least one class"
        )
    require_every_class(counts)
    return counts


def _target(counts: Tensor, n_b: int | None) -> int:
    if n_b is None:
        return -(-int(counts.sum()) // counts.numel())
    if n_b < 1:
        raise LTBenchError(f"n_B is at least 1 feature a class, got {n_b}; raise it or omit it")
    return int(n_b)
