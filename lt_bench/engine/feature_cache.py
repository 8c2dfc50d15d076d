"""Features of augmented training images, made once for all classifiers that ask for the same images.

cRT, LWS and a search over their parameters go through the same augmented images in the same order; the
backbone's forward is all but all of what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from torch import Tensor

# What is kept of one stage 1, on its device; what is beyond is made again each time.
MOST_BYTES = 2**30

FeatureBatch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Kept:
    batches: list[FeatureBatch]
    seconds: float


class FeatureCache:
    """Epochs of feature batches by key.

    Args:
        spent: seconds that making batches has taken so far; may wait for the device.
        most_bytes: the most that is kept.

    Attributes:
        spared: seconds that making took of what was given again, in all.
    """

    def __init__(self, spent: Callable[[], float], most_bytes: int = MOST_BYTES) -> None:
        self.spent = spent
        self.most_bytes = most_bytes
        self.spared = 0.0
        self._kept: dict[Hashable, _Kept] = {}
        self._bytes = 0

    def holds(self, key: Hashable) -> bool:
        """Whether the batches of ``key`` are those of before."""
        return key in self._kept

    def epoch(self, key: Hashable, make: Callable[[], Iterator[FeatureBatch]]) -> Iterator[FeatureBatch]:
        """The batches of ``key``: those of before, not to be written to, or those that ``make`` gives.

        They are kept once they were all asked for, if they fit.
        """
        if key in self._kept:
            self.spared += self._kept[key].seconds
            yield from self._kept[key].batches
            return
        batches: list[FeatureBatch] = []
        size, before = 0, self.spent()
        for batch in make():
            size += sum(part.numel() * part.element_size() for part in batch)
            if self._bytes + size <= self.most_bytes:
                batches.append(batch)
            else:
                batches.clear()
            yield batch
        if self._bytes + size <= self.most_bytes:
            self._kept[key] = _Kept(batches, self.spent() - before)
            self._bytes += size
