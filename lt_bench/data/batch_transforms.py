"""Augmentation and normalisation of a whole batch at a time, on the batch's device.

A transform is called with ``(images, generator)``: images (B, C, H, W), usually uint8 until
``batch_normalize``, and a ``torch.Generator`` of the images' device. Every sample has its own
randomness, drawn by :mod:`lt_bench.data.draws` for the global batch; nothing loops over samples and nothing
waits for the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lt_bench.arguments import are_numbers
from lt_bench.data.draws import integers, uniform
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS


class BatchTransform(ABC):
    """The base of all batch transforms.

    Attributes:
        random: whether evaluation must refuse it.
        final: whether nothing may follow it, since it leaves no (B, C, H, W).
    """

    random: ClassVar[bool] = False
    final: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Transform (B, C, H, W) images."""


@TRANSFORMS.register_module(name="batch_random_crop")
class BatchRandomCrop(BatchTransform):
    """Pad each side with zeros, then crop each image at a place of its own.

    Args:
        padding: pixels on each of the four sides, at least 1.
    """

    random = True

    def __init__(self, padding: int) -> None:
        if padding < 1:
            raise LTBenchError(f"batch_random_crop: padding must be 1 or more, got {padding}")
        self.padding = padding

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Crop (B, C, H, W) to the same shape; offsets are uniform on 0 to 2 * padding."""
        offsets = integers(images, generator, 0, 2 * self.padding + 1, rows=2)
        return crop_at(images, offsets[0], offsets[1], self.padding)


def crop_at(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Crop each image out of its zero-padded self.

    Args:
        images: (B, C, H, W).
        top: (B,) int64, first row of the crop in the padded image, 0 to 2 * padding.
        left: (B,) int64, first column.
        padding: pixels added on each side.

    Returns:
        (B, C, H, W), as ``padded[b, :, top : top + H, left : left + W]``.
    """
    batch, channels, height, width = images.shape
    padded = images.new_zeros(batch, channels, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    # All windows as a view, of which indexing copies one an image: no index a pixel.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=images.device), :, top, left]


@TRANSFORMS.register_module(name="batch_random_flip")
class BatchRandomFlip(BatchTransform):
    """Mirror each image left to right with a probability.

    Args:
        probability: in [0, 1].
    """

    random = True

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise LTBenchError(f"batch_random_flip: probability must be in 0 to 1, got {probability}")
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Flip some of (B, C, H, W)."""
        chance = uniform(images, generator)
        return flip_where(images, chance < self.probability)


def flip_where(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the ``chosen`` (B,) bool images of (B, C, H, W) left to right."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


@TRANSFORMS.register_module(name="batch_normalize")
class BatchNormalize(BatchTransform):
    """(x - mean) / std a channel, as float32.

    Args:
        mean: a number a channel, in units of 0 to 255.
        std: likewise, each above 0, one at least 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        for name, given in (("mean", mean), ("std", std)):
            if not are_numbers(given):
                raise LTBenchError(
                    f"batch_normalize: {name} is a list with one number a channel, [...], got {given!r}"
                )
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise LTBenchError(
                "batch_normalize: mean and std must have one number a channel and std be above 0, "
                f"got mean={list(mean)}, std={list(std)}"
            )
        if max(std) < 1:
            raise LTBenchError(
                f"batch_normalize: mean and std are in units of 0 to 255, got std={list(std)}; multiply both "
                "by 255"
            )
        self._shift = torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1)
        self._scale = (1 / torch.tensor(std, dtype=torch.float64)).float().view(1, -1, 1, 1)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Normalise (B, C, H, W) of any dtype to float32."""
        if images.shape[1] != self._shift.shape[1]:
            raise LTBenchError(
                f"batch_normalize: mean and std have {self._shift.shape[1]} channels, "
                f"the images {images.shape[1]}; give one number a channel"
            )
        if self._shift.device != images.device:  # once, at the first batch
            self._shift = self._shift.to(images.device)
            self._scale = self._scale.to(images.device)
        return images.to(torch.float32).sub(self._shift).mul_(self._scale)


def build_batch_transforms(transforms: Sequence[dict[str, Any]]) -> list[BatchTransform]:
    """Build a pipeline of batch transforms from dicts with a ``type``.

    Raises:
        LTBenchError: an unknown name or argument, a transform of single images, or one behind the last.
    """
    built = [TRANSFORMS.build(dict(cfg)) for cfg in transforms]
    for cfg, transform in zip(transforms, built, strict=True):
        if not isinstance(transform, BatchTransform):
            raise LTBenchError(
                f"transform {cfg['type']!r} works on single images, images in memory are "
                "transformed a batch at a time; use one of the batch_* transforms"
            )
    refuse_behind_final(built)
    return built


def refuse_behind_final(transforms: Sequence[BatchTransform]) -> None:
    """Refuse a transform behind one that leaves no (B, C, H, W)."""
    for transform in transforms[:-1]:
        if transform.final:
            raise LTBenchError(
                f"{type(transform).__name__} must be the last transform; put what follows it into its views, "
                "or what they share in front of it"
            )


def refuse_random(transforms: Sequence[BatchTransform]) -> None:
    """Refuse a transform that draws: an evaluation must give the same logits every time."""
    for transform in transforms:
        if transform.random:
            raise LTBenchError(
                f"{type(transform).__name__} is random and cannot stand in an evaluation's "
                "transforms; keep it for training"
            )
