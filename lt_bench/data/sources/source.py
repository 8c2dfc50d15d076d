"""What a source of images offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_bench.data.images import ImageSet
from lt_bench.errors import LTBenchError


class Source(ABC):
    """One split on the disk: labels at hand, pixels decoded for the positions asked for.

    Attributes:
        labels: (M,) int64.
        classes: names that the file carries, or None.
        where: the file, for sentences.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...] | None = None
    where: str

    @abstractmethod
    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """Pixels of the images at ``positions`` (n,), as (n, C, H, W) uint8."""

    def take(self, positions: NDArray[np.int64] | None = None) -> ImageSet:
        """The images at ``positions``, all of them by default, with their labels."""
        if positions is None:
            positions = np.arange(len(self.labels), dtype=np.int64)
        return ImageSet(self.read(positions), torch.from_numpy(self.labels[positions]))


@dataclass(frozen=True)
class Sources:
    """The splits of one dataset, all of one format.

    Attributes:
        kind: ``"parquet"``, ``"npz"`` or ``"torchvision"``.
        train: the training split.
        val: the validation split, where there is one.
        test: the test split.
    """

    kind: str
    train: Source
    val: Source | None
    test: Source

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names that the files carry, or None."""
        return self.train.classes or self.test.classes


def integer_labels(values: object, where: str) -> NDArray[np.int64]:
    """Labels as (M,) int64.

    Raises:
        LTBenchError: they are no vector of integers.
    """
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise LTBenchError(
            f"labels in {where} must be a vector of integers, "
            f"got {array.dtype} of shape {array.shape}; convert them"
        )
    return array.astype(np.int64)
