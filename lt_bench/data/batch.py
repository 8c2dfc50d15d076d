"""What every loader yields."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One batch, all of it on the device of the loader.

    Attributes:
        images: (B, C, H, W) float32, normalised; (B, V, C, H, W) where the training transforms end in
            ``batch_views``, V views of each image.
        labels: (B,) int64.
        indices: (B,) int64, positions in the split that the loader reads.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
