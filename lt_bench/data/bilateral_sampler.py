"""The two samplers of BBN side by side (Zhou et al., "BBN: Bilateral-Branch Network with Cumulative
Learning for Long-Tailed Visual Recognition", CVPR 2020, section 4.2).

The uniform sampler shows every training image once an epoch. The reversed sampler draws class j with

    p_j = (1 / n_j) / sum_k (1 / n_k)

(the paper writes w_j = N_max / n_j, which cancels) and then one of its images, with replacement. Each
uniform draw is paired with a reversed one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_bench.data.samplers import ClassProbabilitySampler, EpochSampler, InstanceSampler
from lt_bench.registry import DATA_SAMPLERS


class ReversedSampler(ClassProbabilitySampler):
    """N draws with p_j proportional to 1 / n_j."""

    def class_probabilities(self, epoch: int) -> NDArray[np.float64]:
        """(C,) the same in every epoch."""
        weights = 1 / self.counts.astype(np.float64)
        return weights / weights.sum()


@DATA_SAMPLERS.register_module(name="bilateral")
class BilateralSampler(EpochSampler):
    """Pairs of a uniform and a reversed draw: places 0::2 are uniform, places 1::2 reversed.

    ``batch_size`` counts *pairs*, as the released code's does: a batch has twice as many images, and an
    epoch as many steps as one of the instance sampler, so schedules carry over. The global order is the
    same for any number of ranks; pairs stay together, so that every rank's share of every batch is itself
    uniform at 0::2 and reversed at 1::2.

    Args:
        labels: (N,) int64 training labels.
        num_classes: C.
        batch_size: pairs in a global batch.
        seed: of the run.
        epochs: of the run.
        rank: of this process.
        world: number of processes.

    Attributes:
        batch_size: images in a global batch, twice the pairs.

    Raises:
        LTBenchError: what the base refuses, said of pairs.
    """

    def __init__(self, labels: Tensor, **common: Any) -> None:
        super().__init__(labels, **common)
        # The orders are global; only this sampler cuts them into ranks' shares.
        self._uniform = InstanceSampler(labels, **common)
        self._reversed = ReversedSampler(labels, **common)
        self.pairs = self.batch_size
        self.batch_size = 2 * self.pairs

    @property
    def draws(self) -> int:
        """M = 2N."""
        return 2 * len(self.labels)

    def epoch_indices(self, epoch: int) -> Tensor:
        """(2N,) int64, uniform and reversed draws in turn."""
        return torch.stack(
            [self._uniform.epoch_indices(epoch), self._reversed.epoch_indices(epoch)], dim=1
        ).flatten()

    def rank_places(self) -> Tensor:
        """(m,) int64: pairs r, r + world, ... of every global batch fall to rank r, both images of each."""
        bounds = self._bounds()
        pairs = torch.cat(
            [
                torch.arange(min(start // 2 + self.rank, stop // 2), stop // 2, self.world)
                for start, stop in zip(bounds, bounds[1:], strict=False)
            ]
        )
        return torch.stack([2 * pairs, 2 * pairs + 1], dim=1).flatten()

    def rank_sizes(self) -> list[int]:
        """Images of each of this rank's batches, all even."""
        bounds = self._bounds()
        return [
            2 * len(range(start // 2 + self.rank, stop // 2, self.world))
            for start, stop in zip(bounds, bounds[1:], strict=False)
        ]
