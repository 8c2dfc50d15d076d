"""What every loader yields."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lt_bench.data.share import Share


class Batch(NamedTuple):
    """One batch, all of it on the device of the loader.

    Attributes:
        images: (B, C, H, W) float32, normalised; (B, V, C, H, W) where the training transforms end in
            ``batch_views``, V views of each image.
        labels: (B,) int64.
        indices: (B,) int64, positions in the split that the loader reads.
        share: where the batch is a rank's share of a global one, which; None where it is the global one.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    share: Share | None = None

    @property
    def total(self) -> int:
        """Images of the global batch."""
        return len(self.labels) if self.share is None else self.share.total

    def gathered(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, ...) and labels (B,) of the *global* batch, the same on every rank; differentiable.

        A loss that is no mean over images, or that looks at pairs of them, is made of these.
        """
        return self.of_all(rows), self.of_all(self.labels)

    def of_all(self, rows: Tensor) -> Tensor:
        """Rows of the global batch in its order; on one rank, ``rows`` themselves."""
        return rows if self.share is None else self.share.gather(rows)
