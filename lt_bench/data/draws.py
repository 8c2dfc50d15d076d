"""What batch transforms draw: one number an image of the *global* batch, of which a rank keeps its own.

Every rank draws the same numbers from the same seed and takes those at its images' places, so that an
image is augmented alike whatever the number of ranks. On one rank this is a plain draw.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lt_bench.data.share import Share


class ShareGenerator(torch.Generator):
    """A generator that knows which share of a global batch is being made.

    Attributes:
        share: of the batch in the making; None where the batch is the global one.
    """

    share: Share | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> ShareGenerator:
        """A copy at the same state; torch's own would be a plain generator."""
        copied = type(self)(device=self.device)
        copied.set_state(self.get_state())
        copied.share = self.share
        return copied


def uniform(images: Tensor, generator: torch.Generator, rows: int | None = None) -> Tensor:
    """Uniform numbers in [0, 1), one an image.

    Args:
        images: (B, ...) this rank's images; only their number and device count.
        generator: of their device.
        rows: numbers an image; None for one without an axis of its own.

    Returns:
        (B,) or (rows, B) float32 on the images' device.
    """
    drawn = torch.rand(_shape(images, generator, rows), generator=generator, device=images.device)
    return _own(drawn, generator)


def integers(
    images: Tensor, generator: torch.Generator, low: int, high: int, rows: int | None = None
) -> Tensor:
    """Uniform whole numbers from ``low`` to ``high`` - 1, one an image; see :func:`uniform`.

    Returns:
        (B,) or (rows, B) int64.
    """
    shape = _shape(images, generator, rows)
    return _own(torch.randint(low, high, shape, generator=generator, device=images.device), generator)


def _shape(images: Tensor, generator: torch.Generator, rows: int | None) -> tuple[int, ...]:
    share = getattr(generator, "share", None)
    count = len(images) if share is None else share.total
    return (count,) if rows is None else (rows, count)


def _own(drawn: Tensor, generator: torch.Generator) -> Tensor:
    share = getattr(generator, "share", None)
    return drawn if share is None else drawn.index_select(-1, share.places)
