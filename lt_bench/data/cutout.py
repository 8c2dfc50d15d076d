"""Cutout (DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
2017): one square of each image is covered.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.arguments import is_whole
from lt_bench.data.batch_transforms import BatchTransform
from lt_bench.data.draws import integers, uniform
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS

FILLS = ("zeros", "mean")


@TRANSFORMS.register_module(name="batch_cutout")
class BatchCutout(BatchTransform):
    """Cover one square of each image, centred on a pixel of the image's own draw.

    The centre is uniform over all pixels, so a square near the border is cut by it, as in the paper.

    Args:
        size: side of the square in pixels, at least 1.
        fill: what covers it: ``"zeros"`` (black in front of ``batch_normalize``; behind it, as in the paper,
            the dataset's mean colour), or ``"mean"``, the mean of each channel of the image itself.
        probability: that an image is covered at all, in [0, 1].

    Raises:
        LTBenchError: a size below 1, another fill, or a probability outside of its range.
    """

    random = True

    def __init__(self, size: int, fill: str = "zeros", probability: float = 1.0) -> None:
        if not is_whole(size, 1):
            raise LTBenchError(f"batch_cutout: size must be a whole number from 1, got {size!r}")
        if fill not in FILLS:
            raise LTBenchError(f"batch_cutout: fill is one of {', '.join(FILLS)}; got {fill!r}")
        if not 0 <= probability <= 1:
            raise LTBenchError(f"batch_cutout: probability must be in 0 to 1, got {probability}")
        self.size, self.fill, self.probability = size, fill, probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Cover a square of some of (B, C, H, W); dtype and shape stay."""
        height, width = images.shape[2:]
        row = integers(images, generator, 0, height)
        column = integers(images, generator, 0, width)
        chosen = uniform(images, generator) < self.probability
        covered = square_mask(row, column, self.size, height, width) & chosen.view(-1, 1, 1, 1)
        if self.fill == "zeros":
            return images.masked_fill(covered, 0)
        mean = images.mean((2, 3), keepdim=True, dtype=torch.float32)
        if not images.dtype.is_floating_point:
            mean = mean.round()
        return torch.where(covered, mean.to(images.dtype), images)


def square_mask(row: Tensor, column: Tensor, size: int, height: int, width: int) -> Tensor:
    """Where squares lie.

    Args:
        row: (B,) int64, row of each centre; a square starts at row - size // 2.
        column: (B,) int64, likewise.
        size: side in pixels.
        height: H.
        width: W.

    Returns:
        (B, 1, H, W) bool.
    """

    def inside(centre: Tensor, extent: int) -> Tensor:
        first = (centre - size // 2).unsqueeze(1)
        places = torch.arange(extent, device=centre.device)
        return (places >= first) & (places < first + size)

    return (inside(row, height).unsqueeze(2) & inside(column, width).unsqueeze(1)).unsqueeze(1)
