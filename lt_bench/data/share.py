"""A rank's share of a global batch.

Samplers cut every global batch into the ranks' shares. What is a mean over the batch, or looks at pairs of
its images, is of the *global* batch, so that any number of ranks trains the same network. Two things make
it so: :attr:`Share.weight`, by which a rank's loss counts in the mean that
DistributedDataParallel takes of the gradients, and :meth:`Share.gather`, which shows every rank what all
ranks computed.

With W ranks, B images and b_r of them on rank r, DDP's gradient is 1/W sum_r grad(w_r L_r) with
w_r = W b_r / B. If L_r is the mean over rank r's images, this is the gradient of the global mean. If every
rank computes the same L from gathered tensors, sum_r w_r / W = 1 leaves what the ranks share as it is, and
the backward of ``gather`` hands a rank the gradient of its own rows times B / b_r, which w_r and 1/W undo.

A rank may have no image of the last batch of an epoch. It computes everything on tensors of no rows, so that
it takes its part in whatever the ranks compute together; its loss counts as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Which places of a global batch are this rank's.

    Attributes:
        places: (b,) int64 on the batch's device, each in 0 to ``total`` - 1; b may be 0.
        total: B, images of the global batch.
        world: number of ranks.
    """

    places: Tensor
    total: int
    world: int

    @property
    def weight(self) -> float:
        """w_r = W b_r / B."""
        return self.world * len(self.places) / self.total

    def weighted(self, loss: Tensor) -> Tensor:
        """What this rank's loss counts for, w_r L_r.

        Args:
            loss: () L_r. Of no images a mean is NaN, which counts as zero and has a gradient of zero.
        """
        if len(self.places):
            return loss * self.weight
        return torch.where(torch.zeros_like(loss, dtype=torch.bool), loss, 0)

    def gather(self, rows: Tensor) -> Tensor:
        """Every rank's rows in the order of the global batch; all ranks call it.

        Args:
            rows: (b, ...) this rank's rows, of any dtype that can be summed.

        Returns:
            (B, ...) the same on every rank, differentiable.
        """
        gathered: Tensor = _Gather.apply(rows, self.places, self.total)
        return gathered

    def of_first(self, drawn: Tensor) -> None:
        """Put what the first rank drew in the place of every rank's ``drawn``; all ranks call it."""
        dist.broadcast(drawn, src=0)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(places)
        # Zeros and one rank's numbers: the sum is exact, and shares may differ in size.
        every = rows.new_zeros((total, *rows.shape[1:]))
        every.index_copy_(0, places, rows)
        dist.all_reduce(every)
        return every

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient.index_select(0, places) * (len(gradient) / max(1, len(places))), None, None
