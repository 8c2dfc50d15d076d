"""Colour augmentation of a whole batch at a time, every sample with factors of its own.

Values are in units of 0 to 255, so these transforms stand in front of ``batch_normalize``. They compute
in float32; uint8 images are rounded once, at the end, and images of another dtype stay unrounded. Grey
is the luma of ITU-R BT.601 with the rounded weights 0.2989, 0.587 and 0.114.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.data.batch_transforms import BatchTransform
from lt_bench.data.draws import uniform
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS

LUMA = (0.2989, 0.587, 0.114)


@TRANSFORMS.register_module(name="batch_color_jitter")
class BatchColorJitter(BatchTransform):
    """Change brightness, contrast, saturation and hue of each image by amounts of its own.

    A factor of the first three is uniform on max(0, 1 - x) to 1 + x, the turn of the hue uniform on -x to
    x of the colour circle. The order is fixed: brightness, contrast, saturation, hue. (torchvision's
    ColorJitter draws the order; one order for all keeps the batch in one operation.) Images of one channel
    have neither saturation nor hue: those two are left out there.

    Args:
        brightness: x of the brightness, from 0.
        contrast: x of the contrast, from 0.
        saturation: x of the saturation, from 0.
        hue: x of the hue, in [0, 0.5].
        probability: that an image is changed at all, in [0, 1].

    Raises:
        LTBenchError: a number outside of its range.
    """

    random = True

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        probability: float = 1.0,
    ) -> None:
        for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
            if value < 0:
                raise LTBenchError(f"batch_color_jitter: {name} must be 0 or more, got {value}")
        if not 0 <= hue <= 0.5:
            raise LTBenchError(f"batch_color_jitter: hue must be in 0 to 0.5, got {hue}")
        _check_probability("batch_color_jitter", probability)
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue, self.probability = hue, probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter (B, C, H, W) of 1 or 3 channels in 0 to 255; dtype and shape stay."""
        _check_channels("batch_color_jitter", images)
        draw = uniform(images, generator, rows=5)
        changed = images.to(torch.float32)
        if self.brightness:
            changed = adjust_brightness(changed, _factor(self.brightness, draw[0]))
        if self.contrast:
            changed = adjust_contrast(changed, _factor(self.contrast, draw[1]))
        if images.shape[1] == 3 and self.saturation:
            changed = adjust_saturation(changed, _factor(self.saturation, draw[2]))
        if images.shape[1] == 3 and self.hue:
            changed = turn_hue(changed, self.hue * (2 * draw[3] - 1))
        chosen = (draw[4] < self.probability).view(-1, 1, 1, 1)
        return torch.where(chosen, _like(changed, images.dtype), images)


@TRANSFORMS.register_module(name="batch_grayscale")
class BatchGrayscale(BatchTransform):
    """Take the colour out of each image with a probability; images of one channel stay as they are.

    Args:
        probability: in [0, 1].

    Raises:
        LTBenchError: a probability outside of its range.
    """

    random = True

    def __init__(self, probability: float = 0.2) -> None:
        _check_probability("batch_grayscale", probability)
        self.probability = probability

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Grey some of (B, C, H, W) of 1 or 3 channels in 0 to 255; dtype and shape stay."""
        _check_channels("batch_grayscale", images)
        # Drawn for one channel too: what the generator gives later does not depend on the channels.
        chance = uniform(images, generator)
        if images.shape[1] == 1:
            return images
        grey = _like(luma(images.to(torch.float32)), images.dtype)
        return torch.where((chance < self.probability).view(-1, 1, 1, 1), grey, images)


def luma(images: Tensor) -> Tensor:
    """Grey values (B, 1, H, W) of float images (B, C, H, W); one channel is its own grey."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply each of the float images (B, C, H, W) in 0 to 255 by its factor (B,)."""
    return (images * factor.view(-1, 1, 1, 1)).clamp(0, 255)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch each of the float images (B, C, H, W) by its factor (B,) about its own mean grey."""
    return _blend(images, luma(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch each of the float images (B, 3, H, W) by its factor (B,) away from its grey pixels."""
    return _blend(images, luma(images), factor)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each of the float images (B, 3, H, W) by its share (B,) of the colour circle.

    Through HSV: value V = max, chroma S V = max - min, and back by
    channel_n = V - S V * min(k, 4 - k, 1) cut at 0, k = (n + 6 H) mod 6, n = 5, 3, 1 for R, G, B.
    """
    red, green, blue = images.split(1, dim=1)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turned = sextant + 6 * turn.view(-1, 1, 1, 1)
    channels = []
    for n in (5, 3, 1):
        k = torch.remainder(turned + n, 6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.cat(channels, dim=1)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    share = factor.view(-1, 1, 1, 1)
    return (share * images + (1 - share) * other).clamp(0, 255)


def _factor(strength: float, draw: Tensor) -> Tensor:
    low, high = max(0.0, 1 - strength), 1 + strength
    return low + (high - low) * draw


def _like(images: Tensor, dtype: torch.dtype) -> Tensor:
    return images if dtype.is_floating_point else images.round().to(dtype)


def _check_channels(name: str, images: Tensor) -> None:
    if images.shape[1] not in (1, 3):
        raise LTBenchError(f"{name}: images have 1 or 3 channels, got {images.shape[1]}; leave {name} out")


def _check_probability(name: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise LTBenchError(f"{name}: probability must be in 0 to 1, got {probability}")
