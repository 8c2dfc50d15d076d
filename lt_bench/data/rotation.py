"""Rotation of each image about its centre, an angle an image."""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.data.batch_transforms import BatchTransform
from lt_bench.data.draws import uniform
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS


@TRANSFORMS.register_module(name="batch_random_rotation")
class BatchRandomRotation(BatchTransform):
    """Rotate each image by an angle of its own, as torchvision's ``RandomRotation`` does one by one.

    Args:
        degrees: angles are uniform from -degrees to degrees; above 0, at most 180.

    Raises:
        LTBenchError: degrees outside of that range.
    """

    random = True

    def __init__(self, degrees: float) -> None:
        if not isinstance(degrees, (int, float)) or not 0 < degrees <= 180:
            raise LTBenchError(
                f"batch_random_rotation: degrees must be above 0 and at most 180, got {degrees!r}"
            )
        self.degrees = degrees

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Rotate (B, C, H, W); dtype and shape stay."""
        return rotate_by(images, (2 * uniform(images, generator) - 1) * self.degrees)


def rotate_by(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image about its centre.

    Args:
        images: (B, C, H, W) of any dtype.
        degrees: (B,) float32, counter-clockwise.

    Returns:
        (B, C, H, W): every pixel is the one nearest to where it comes from, or 0 from beyond the image.
    """
    height, width = images.shape[2:]
    angles = torch.deg2rad(degrees).view(-1, 1, 1)
    cosine, sine = angles.cos(), angles.sin()
    down = (torch.arange(height, device=images.device) - (height - 1) / 2).unsqueeze(1)
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    row = (sine * across + cosine * down + height / 2).floor().long()
    column = (cosine * across - sine * down + width / 2).floor().long()
    beyond = (row < 0) | (row >= height) | (column < 0) | (column >= width)
    places = (row * width + column).masked_fill(beyond, 0).flatten(1).unsqueeze(1)
    moved = images.flatten(2).gather(2, places.expand(-1, images.shape[1], -1)).view_as(images)
    return moved.masked_fill(beyond.unsqueeze(1), 0)
