"""Decoding straight to a random crop: the transform that stands first and reads the file itself.

A plain pipeline decodes all pixels with PIL, crops and resizes them. Here the crop is drawn from the size
in the file's header, before anything is decoded. A JPEG whose crop is at least twice, four or eight times
as large as the output on both sides is decoded at 1/2, 1/4 or 1/8 by its DCT (libjpeg's scaled decoding).
The others are decoded by OpenCV, whose JPEG pixels are those of PIL in less time, to a uint8 tensor that
torchvision's vectorised kernels crop and resize. (Its own ``decode_jpeg`` is as fast, and deprecated.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lt_bench.arguments import are_numbers, is_whole
from lt_bench.data.decoding import as_rgb
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS

# What libjpeg can divide an image's sides by while it decodes.
_DIVISORS = (8, 4, 2)
# JPEGs in other colour spaces (CMYK) are PIL's to convert.
_PLAIN_MODES = ("RGB", "L")


class DecodingTransform(ABC):
    """A transform of single images that takes a file; it stands first in a pipeline."""

    @abstractmethod
    def decode(self, path: Path) -> Any:
        """The file's image: a PIL image, or a uint8 tensor (3, H, W).

        Raises:
            OSError: it cannot be read or decoded (or another of ``decoding.DECODE_ERRORS``).
        """

    def __call__(self, image: Any) -> Any:
        """Refuse an image that is decoded already.

        Raises:
            LTBenchError: always.
        """
        raise LTBenchError(
            f"{type(self).__name__} reads image files itself and works on no image that is decoded; put its "
            "transform first, over a dataset of image files"
        )


def leading_decoder(
    transforms: Sequence[Callable[[Any], Any]],
) -> tuple[Callable[[Path], Any], list[Callable[[Any], Any]]]:
    """How a pipeline's files are decoded, and the transforms that follow.

    Args:
        transforms: of single images, in order.

    Raises:
        LTBenchError: a decoding transform stands behind another.
    """
    for late in transforms[1:]:
        if isinstance(late, DecodingTransform):
            raise LTBenchError(
                f"{type(late).__name__} reads image files itself and stands behind another transform; "
                "put it first"
            )
    if transforms and isinstance(transforms[0], DecodingTransform):
        return transforms[0].decode, list(transforms[1:])
    return decode_rgb, list(transforms)


def decode_rgb(path: Path) -> Image.Image:
    """All of a file's image, by PIL."""
    with Image.open(path) as opened:
        return as_rgb(opened)


@TRANSFORMS.register_module(name="decode_random_resized_crop")
class DecodeRandomResizedCrop(DecodingTransform):
    """``RandomResizedCrop`` that decodes no more of a JPEG than its crop needs.

    The crop is the one that ``torchvision.transforms.v2.RandomResizedCrop`` draws, of the same distribution
    and, from the same seed, the same rectangle. Pixels differ from it: by rounding where the image is decoded
    at its own size (resized as a tensor, not by PIL; bilinear with antialiasing both), by a level or a few
    where it is decoded at a fraction, for the DCT averages a block of pixels where full decoding and resizing
    weigh them.

    Args:
        size: height and width of the output in pixels.
        scale: least and most of the image's area in a crop.
        ratio: least and most width / height of a crop.

    Raises:
        LTBenchError: a size below 1, or ranges that are not two positive numbers in order.
    """

    def __init__(
        self,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        if not is_whole(size, 1):
            raise LTBenchError(f"decode_random_resized_crop: size is a whole number from 1, got {size!r}")
        for name, given in (("scale", scale), ("ratio", ratio)):
            if not are_numbers(given) or len(given) != 2 or not 0 < given[0] <= given[1]:
                raise LTBenchError(
                    f"decode_random_resized_crop: {name} is two positive numbers, the lesser first; "
                    f"got {given!r}"
                )
        self.size = size
        self._crop = v2.RandomResizedCrop(size, scale=tuple(scale), ratio=tuple(ratio))

    def decode(self, path: Path) -> Tensor:
        """(3, size, size) uint8 of a random part of the image; see the base class."""
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as opened:
            drawn = self._crop.make_params([opened])
            top, left, height, width = (int(drawn[key]) for key in ("top", "left", "height", "width"))
            if opened.format != "JPEG" or opened.mode not in _PLAIN_MODES:
                whole = functional.pil_to_tensor(as_rgb(opened))
            elif (divisor := self.divisor(height, width)) > 1:
                return self._of_fraction(opened, divisor, (left, top, left + width, top + height))
            else:
                whole = _decoded(data, opened)
        return functional.resized_crop(whole, top, left, height, width, [self.size] * 2, antialias=True)

    def divisor(self, height: int, width: int) -> int:
        """1, 2, 4 or 8: what a JPEG's sides are divided by for a crop of this size in its own pixels.

        The most that leaves the crop no smaller than the output: nothing is ever magnified for speed.
        """
        return next((n for n in _DIVISORS if min(height, width) >= n * self.size), 1)

    def _of_fraction(self, opened: Image.Image, divisor: int, box: tuple[int, int, int, int]) -> Tensor:
        full_width, full_height = opened.size
        opened.draft("RGB", (full_width // divisor, full_height // divisor))
        # Not the ratio of the sizes: the last pixel of a row may stand for fewer than ``divisor``.
        left, top, right, bottom = (edge / divisor for edge in box)
        small = as_rgb(opened).resize(
            (self.size, self.size), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
        )
        return functional.pil_to_tensor(small)


def _decoded(data: bytes, opened: Image.Image) -> Tensor:
    # Turned as it is stored, like PIL's.
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        # What PIL finds broken, it says; where OpenCV is the stricter of the two, PIL's pixels do.
        return functional.pil_to_tensor(as_rgb(opened))
    return torch.from_numpy(pixels).permute(2, 0, 1)
