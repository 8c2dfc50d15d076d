"""The two ways in which a split is held: pixels in memory, or files that workers decode."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lt_bench.data.image_tree import file_sizes
from lt_bench.errors import LTBenchError


def check_labels(labels: Tensor, num_classes: int, what: str) -> None:
    """Refuse labels that are not integers in [0, ``num_classes``).

    Args:
        labels: (N,) int64.
        num_classes: C.
        what: what the labels belong to, for the sentence, e.g. ``"the train split of my_set"``.

    Raises:
        LTBenchError: wrong shape or dtype, or a label out of range; the first one is named.
    """
    if labels.dim() != 1 or labels.dtype != torch.int64:
        raise LTBenchError(
            f"labels of {what} must be a vector of int64, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}; convert them"
        )
    bad = (labels < 0) | (labels >= num_classes)
    if bool(bad.any()):
        place = int(bad.nonzero()[0])
        raise LTBenchError(
            f"label {int(labels[place])} at position {place} of {what} is out of range: expected "
            f"0 to {num_classes - 1} for {num_classes} classes; correct the label or the classes"
        )


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images that fit in memory, as one tensor.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.

    Raises:
        LTBenchError: another shape or dtype, or images and labels that differ in number.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.images.dtype != torch.uint8:
            raise LTBenchError(
                "images must be uint8 of shape (N, C, H, W), "
                f"got {self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        _check_pair(len(self.images), self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set on ``device``; itself where it is there already."""
        images, labels = self.images.to(device), self.labels.to(device)
        if images is self.images and labels is self.labels:
            return self
        return ImageSet(images, labels)


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that stay in files.

    Attributes:
        paths: N paths relative to ``root``, with forward slashes.
        labels: (N,) int64.
        root: the folder that the paths start from.

    Raises:
        LTBenchError: labels of another shape or dtype, or of another number than the paths.
    """

    paths: tuple[str, ...]
    labels: Tensor
    root: Path

    def __post_init__(self) -> None:
        _check_pair(len(self.paths), self.labels)

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def sizes(self) -> Tensor:
        """(N,) int64 bytes of each file, -1 where there is none; looked up once."""
        return file_sizes(self.root, self.paths)


def _check_pair(count: int, labels: Tensor) -> None:
    if labels.dim() != 1 or labels.dtype != torch.int64:
        raise LTBenchError(
            f"labels must be a vector of int64, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if count != len(labels):
        raise LTBenchError(f"a split needs one label an image, got {count} images and {len(labels)} labels")
