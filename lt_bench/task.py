"""The task: what a method may know about the data it is trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lt_bench.data.dataset import LongTailData
from lt_bench.evaluation.shots import shot_groups


@dataclass(frozen=True)
class Task:
    """A long-tailed recognition task under a stated protocol.

    Attributes:
        dataset: the dataset's name, e.g. ``"cifar100_lt"``.
        classes: class names in label order, C of them.
        counts: (C,) int64, training images n_j of each class.
        convention: how shot groups are cut: ``paper``, ``strict`` or ``inclusive``.
        groups: (C,) int8, 0 many-shot, 1 medium-shot, 2 few-shot.
    """

    dataset: str
    classes: tuple[str, ...]
    counts: Tensor
    convention: str
    groups: Tensor

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    @property
    def num_samples(self) -> int:
        """N, the number of training images."""
        return int(self.counts.sum())

    @classmethod
    def of(cls, data: LongTailData, convention: str) -> Task:
        """The task that ``data`` poses under a shot-group convention.

        Raises:
            LTBenchError: the convention is unknown.
        """
        return cls(
            dataset=data.name,
            classes=data.classes,
            counts=data.counts,
            convention=convention,
            groups=shot_groups(data.counts, convention),
        )
