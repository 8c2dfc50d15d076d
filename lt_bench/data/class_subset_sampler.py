"""Sampling from some of the classes only, as experts of a group of classes are trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_bench.data.random_keys import random_keys
from lt_bench.data.samplers import EpochSampler
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATA_SAMPLERS
from lt_bench.seeding import derive_seed


@DATA_SAMPLERS.register_module(name="of_classes")
class ClassSubsetSampler(EpochSampler):
    """Image-balanced among some classes: each of their images once an epoch, shuffled.

    Args:
        labels: (N,) int64 training labels.
        classes: the labels to draw from.
        **common: see :class:`lt_bench.data.samplers.EpochSampler`.

    Raises:
        LTBenchError: no class, one that does not exist, fewer images than processes, or what the base
            refuses.
    """

    def __init__(self, labels: Tensor, *, classes: Sequence[int], **common: Any) -> None:
        super().__init__(labels, **common)
        num_classes, world = self.num_classes, self.world
        wrong = [c for c in classes if not isinstance(c, int) or not 0 <= c < num_classes]
        if not classes or wrong:
            raise LTBenchError(
                f"of_classes draws from classes of 0 to {num_classes - 1}, got {list(classes)!r:.80}"
            )
        self.classes = sorted(set(classes))
        if self.draws < world:
            raise LTBenchError(
                f"of_classes: {world} ranks need as many images, the classes have {self.draws}"
            )

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """(M,) positions of the classes' images, ascending."""
        return np.flatnonzero(np.isin(self.labels.numpy(), self.classes))

    @property
    def draws(self) -> int:
        """M, the images of the classes."""
        return len(self._places)

    def epoch_indices(self, epoch: int) -> Tensor:
        """(M,) int64, a permutation of the classes' images."""
        keys = random_keys(derive_seed("of_classes", self.seed, int(epoch)), self._places)
        return torch.from_numpy(self._places[np.argsort(keys, kind="stable")])
