"""Alignments: affine maps that carry a class's features of an earlier epoch to the current one.

Breadcrumbs, section 3.2, (5), and the ablation of section 5.2. An alignment is a function of the
moments of groups of features, a group being one class in one earlier epoch, and of the moments of the
same classes now. It returns ``(scale, shift)``, each broadcastable to the groups' (..., d), or None,
meaning

    z  ->  scale * z + shift,        None standing for 1 and 0.

Another alignment is one function registered in ``ALIGNMENTS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lt_bench.registry import ALIGNMENTS

# A deviation this small beside its mean is rounding, not spread: nothing to rescale by.
_NO_SPREAD = 1e-6


class Moments(Protocol):
    """Moments of groups of features, in any leading shape; read, never written to.

    Attributes:
        count: (...,) int64, the class's number of samples.
        mean, std: (..., d), the class's mean and biased standard deviation in the epoch.
        epoch_mean: (..., d), the mean over all classes' features in the epoch.
    """

    @property
    def count(self) -> Tensor: ...  # noqa: D102
    @property
    def mean(self) -> Tensor: ...  # noqa: D102
    @property
    def std(self) -> Tensor: ...  # noqa: D102
    @property
    def epoch_mean(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class ViewedMoments:
    """Moments that lie side by side: views, of shapes that broadcast against each other."""

    count: Tensor
    mean: Tensor
    std: Tensor
    epoch_mean: Tensor


@dataclass(frozen=True, eq=False)
class GatheredMoments:
    """Moments of P groups that lie anywhere in tables; a table is only read when an alignment asks for it.

    Attributes:
        mean_table, std_table: (G, d).
        epoch_mean_table: (S, d), means of all N features of an epoch.
        groups: (P,) int64, rows of the first two tables.
        epochs: (P,) int64, rows of the third.
        count: (P,) int64, the n_j.
    """

    mean_table: Tensor
    std_table: Tensor
    epoch_mean_table: Tensor
    groups: Tensor
    epochs: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """(P, d)."""
        return self.mean_table.index_select(0, self.groups)

    @property
    def std(self) -> Tensor:
        """(P, d)."""
        return self.std_table.index_select(0, self.groups)

    @property
    def epoch_mean(self) -> Tensor:
        """(P, d)."""
        return self.epoch_mean_table.index_select(0, self.epochs)


Affine = tuple[Tensor | None, Tensor | None]
Alignment = Callable[[Moments, Moments], Affine]


@ALIGNMENTS.register_module("mean")
def mean(old: Moments, new: Moments) -> Affine:
    """(5): z - mean_old + mean_new, class by class."""
    return None, new.mean - old.mean


@ALIGNMENTS.register_module("variance")
def variance(old: Moments, new: Moments) -> Affine:
    """Mean and deviation: (z - mean_old) * std_new / std_old + mean_new ("var." of Table 1).

    A dimension keeps its scale where a class has one sample or had no spread in the earlier epoch;
    there this is ``mean``.
    """
    old_mean, old_std = old.mean, old.std
    # 1.0 or 0.0; arithmetic with it is many times faster on a CPU than a selection by booleans.
    spread = old_mean.abs().mul_(_NO_SPREAD).lt_(old_std).mul_((old.count > 1)[..., None])
    ratio = (new.std / old_std).nan_to_num_(1.0, 1.0, 1.0)
    scale = ratio.sub_(1).mul_(spread).add_(1)
    return scale, torch.addcmul(new.mean, scale, old_mean, value=-1)


@ALIGNMENTS.register_module("class_agnostic")
def class_agnostic(old: Moments, new: Moments) -> Affine:
    """One shift for all classes, between the means of all features ("agn." of Table 1)."""
    return None, new.epoch_mean - old.epoch_mean


@ALIGNMENTS.register_module("none")
def none(old: Moments, new: Moments) -> Affine:
    """Features as they were in their epoch ("+ class-specific" of Table 1)."""
    return None, None
