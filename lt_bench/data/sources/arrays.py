"""Images that were read as one array: from npz archives, idx files and CIFAR's batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_bench.data.sources.source import Source, integer_labels
from lt_bench.errors import LTBenchError


class ArraySource(Source):
    """One split as arrays in memory.

    Args:
        images: uint8 of shape (M, H, W), (M, H, W, 1 or 3) or (M, 1 or 3, H, W); where both
            readings of four axes are possible, the channels are the last one.
        labels: (M,) integers.
        where: for sentences.
        classes: names, if there are any.

    Raises:
        LTBenchError: another dtype or shape, or images and labels that differ in number.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.integer],
        where: str,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.where, self.classes = where, classes
        self.labels = integer_labels(labels, where)
        channels = (1, 3)
        if images.ndim == 3:
            images = images[:, None]
        elif images.ndim == 4 and images.shape[3] in channels:
            images = images.transpose(0, 3, 1, 2)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in channels:
            raise LTBenchError(
                f"images in {where} must be uint8 of shape (M, H, W), (M, H, W, 1 or 3) or "
                f"(M, 1 or 3, H, W), got {images.dtype} of shape {images.shape}; convert them"
            )
        if len(images) != len(self.labels):
            raise LTBenchError(
                f"{where} has {len(images)} images and {len(self.labels)} labels; give each image one label"
            )
        self._images = images

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The images at ``positions``, (n, C, H, W) uint8."""
        return torch.from_numpy(np.ascontiguousarray(self._images[positions]))
