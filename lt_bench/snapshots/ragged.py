"""Rows that belong to classes of different sizes, addressed without a loop over classes."""

from __future__ import annotations

import torch
from torch import Tensor


def starts(lengths: Tensor) -> Tensor:
    """The first row of each group when groups of ``lengths`` rows lie one after the other.

    Args:
        lengths: (G,) int64.

    Returns:
        (G,) int64.
    """
    return lengths.cumsum(0) - lengths


def rows_of(lengths: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Which group a row belongs to, and the row's place in it.

    Args:
        lengths: (G,) int64 on any device.
        total: their sum, known to the caller, so that no device has to be asked for it.

    Returns:
        group and place, each (total,) int64: for lengths (2, 0, 3) they are
        (0, 0, 2, 2, 2) and (0, 1, 0, 1, 2).
    """
    groups = torch.arange(lengths.numel(), device=lengths.device)
    group = torch.repeat_interleave(groups, lengths, output_size=total)
    place = torch.arange(total, device=lengths.device) - starts(lengths).index_select(0, group)
    return group, place
