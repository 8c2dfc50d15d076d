"""Capturing a snapshot from the training forward, by sample index.

One preallocated (N, d) storage on the training device. A step writes its batch to its rows: no
extra forward, no synchronisation. Beside the epoch in flight nothing is kept: the snapshot that
:meth:`SnapshotBuffer.finish` returns *is* this storage, and the next capture writes over it, so
whatever wants it later (a trail, a store) copies it first.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.snapshot import Snapshot, class_order, make_snapshot, training_counts

_NEVER = -1


class SnapshotBuffer:
    """The features of an epoch in the making.

    Args:
        labels: (N,) integers, the training labels in the order of the data set.
        num_classes: C.
        dim: d.
        dtype: of the features kept.
        device: of the training.

    Attributes:
        features: (N, d), class-sorted.
        counts: (C,) int64 on the CPU.

    Raises:
        LTBenchError: a label out of range or a class without a sample.
    """

    def __init__(
        self,
        labels: Tensor,
        num_classes: int,
        dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.counts = training_counts(labels, num_classes)
        order = class_order(labels.detach().to("cpu"))
        position = torch.empty_like(order)
        position[order] = torch.arange(order.numel())
        self._position = position.to(device)
        self.features = torch.zeros(order.numel(), dim, dtype=dtype, device=device)
        # The serial number of the capture that wrote a row. Numbers only grow, so one comparison
        # tells whether a row is of this epoch, and the largest number settles who wrote last.
        self._serial = torch.full_like(self._position, _NEVER)
        self._next = 0
        self._epoch_start = 0

    def capture(self, indices: Tensor, features: Tensor) -> None:
        """Keep the features of a batch. Nothing is synchronised and no gradient is kept.

        A sample that occurs more than once, in a batch or in an epoch, keeps its last features.

        Args:
            indices: (B,) int64 on the device, positions in the data set.
            features: (B, d) on the device, any floating dtype.

        Raises:
            LTBenchError: the features are not (B, d).
        """
        size = indices.numel()
        if features.shape != (size, self.features.shape[1]):
            raise LTBenchError(
                f"a batch of {size} samples has {(size, self.features.shape[1])} features, got "
                f"{tuple(features.shape)}; capture what the classifier's last layer sees"
            )
        with torch.no_grad():
            rows = self._position.index_select(0, indices)
            number = torch.arange(self._next, self._next + size, device=rows.device)
            self._serial.scatter_reduce_(0, rows, number, "amax")
            # Every occurrence of a sample writes the features of the last one: order is irrelevant.
            last = self._serial.index_select(0, rows) - self._next
            kept = features.detach().to(self.features.dtype).index_select(0, last)
            self.features.index_copy_(0, rows, kept)
        self._next += size

    def finish(self, epoch: int) -> Snapshot:
        """The snapshot of the epoch; the next capture belongs to the next epoch.

        Under ``torch.distributed`` every rank calls this and gets the same, global snapshot. Each
        sample is normally captured by one rank; where several did, the lowest rank's features
        count. A sample that was not seen in this epoch keeps its features of an earlier one.

        Args:
            epoch: e, counted from 1.

        Returns:
            Z^e, sharing the buffer's memory: use or copy it before the next capture.

        Raises:
            LTBenchError: samples were never captured, or features are NaN or infinite.
        """
        known = self._serial > _NEVER
        if get_world_size() > 1:
            known = self._combine_ranks(known)
        unseen = int((~known).sum())
        if unseen:
            raise LTBenchError(
                f"the snapshot of epoch {epoch} needs features of all {known.numel()} training "
                f"samples, {unseen} were never captured; use a sampler that visits every sample, "
                "or capture at the end of the epoch"
            )
        self._serial.clamp_(min=0)
        self._epoch_start = self._next = max(self._next, 1)
        return make_snapshot(epoch, self.features, self.counts)

    def state_dict(self) -> dict[str, Tensor]:
        """The epoch in flight, for a checkpoint in the middle of it; of all ranks, which all call this.

        Returns:
            ``features`` (N, d), ``known`` (N,) and ``fresh`` (N,) bool, whether a row is of this epoch.
        """
        known, fresh = self._serial > _NEVER, self._serial >= self._epoch_start
        if get_world_size() > 1:
            known = self._combine_ranks(known)
            seen = fresh.to(torch.int32)
            dist.all_reduce(seen, op=dist.ReduceOp.MAX)
            fresh = seen > 0
        return {"features": self.features, "known": known, "fresh": fresh}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with an epoch that was saved in flight, on as many ranks as there are now."""
        device = self.features.device
        self.features.copy_(state["features"])
        known, fresh = state["known"].to(device), state["fresh"].to(device)
        if get_rank() > 0:
            # The lowest rank that saw a row provides it; the others hold the same bytes.
            fresh = torch.zeros_like(fresh)
        self._serial.fill_(_NEVER).masked_fill_(known, 0).masked_fill_(fresh, 1)
        self._epoch_start, self._next = 1, 2

    def _combine_ranks(self, known: Tensor) -> Tensor:
        """Make every rank's storage the global one; the samples that any rank knows."""
        rank, world = get_rank(), get_world_size()
        # Who provides a row: the lowest rank that saw it in this epoch, else the lowest knowing it.
        fresh = self._serial >= self._epoch_start
        bid = torch.full_like(self._serial, 2 * world, dtype=torch.int32)
        bid.masked_fill_(known, world + rank).masked_fill_(fresh, rank)
        owner = bid.clone()
        dist.all_reduce(owner, op=dist.ReduceOp.MIN)
        self.features.masked_fill_(((bid != owner) | (owner == 2 * world))[:, None], 0)
        # One rank's bytes and zeros: the sum is exact in every dtype, whatever the bits.
        dist.all_reduce(self.features.view(torch.uint8), op=dist.ReduceOp.SUM)
        return owner < 2 * world
