"""Long-tailed training profiles, and the draw that makes one from a balanced set.

The exponential profile is that of Cui et al. (2019), n_j = int(n_max * IF^(-j / (C - 1))). The
draw is that of the released LDAM-DRW code (Cao et al., 2019), which every CIFAR-LT number of
the field stands on: one ``numpy.random.RandomState(0)``; for each class in order its ascending
training indices are shuffled in place and the first n_j are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lt_bench.errors import LTBenchError

# More than any class has.
_MOST_IMAGES = 10**9


def exponential_counts(largest: int, imbalance_factor: float, num_classes: int) -> list[int]:
    """Training counts n_j = int(largest * IF^(-j / (C - 1))), from the head to the tail.

    Args:
        largest: n_max, the images of class 0.
        imbalance_factor: IF = n_max / n_min, at least 1.
        num_classes: C, at least 2.

    Returns:
        C counts, each at least 1.

    Raises:
        LTBenchError: no image in the head, IF below 1, fewer than two classes, or a tail class left without
            an image.
    """
    if not 1 <= largest <= _MOST_IMAGES:
        raise LTBenchError(f"largest is a whole number from 1 to {_MOST_IMAGES}, got {str(largest)[:40]}")
    if not 1 <= imbalance_factor < float("inf"):
        raise LTBenchError(f"imbalance_factor must be 1 or more, got {imbalance_factor}")
    if num_classes < 2:
        raise LTBenchError(f"a long-tailed profile needs 2 classes or more, got {num_classes}")
    counts = [0]
    if imbalance_factor <= largest:  # of a much larger one no power can be taken
        counts = [int(largest * imbalance_factor ** (-j / (num_classes - 1))) for j in range(num_classes)]
    if counts[-1] < 1:
        raise LTBenchError(
            f"imbalance_factor {str(imbalance_factor)[:40]} leaves class {num_classes - 1} no training "
            f"sample ({largest} images in class 0); use {largest} or less"
        )
    return counts


def inaturalist_profile() -> list[int]:
    """Class sizes from 1,000 to 2 with iNaturalist 2018's total (437,513) and strict shot groups.

    Those are 842 many-shot, 4,076 medium-shot and 3,224 few-shot classes. Geometric within the medium (100 to
    20) and few (19 to 2) classes; the many-shot classes fall from 1,000 to 101 as steeply as the total asks
    for. A profile, not the dataset's own counts.

    Returns:
        8,142 counts, from the head to the tail.
    """
    many, medium, few, total = 842, 4076, 3224, 437_513

    def fall(high: float, low: float, classes: int, steepness: float) -> NDArray[np.int64]:
        place = np.linspace(0, 1, classes)
        return np.rint(low * (high / low) ** ((1 - place) ** steepness)).astype(np.int64)

    rest = np.concatenate([fall(100, 20, medium, 1.0), fall(19, 2, few, 1.0)])
    flat, steep = 0.1, 20.0
    for _ in range(60):
        middle = (flat + steep) / 2
        over = int(fall(1000, 101, many, middle).sum() + rest.sum()) > total
        flat, steep = (middle, steep) if over else (flat, middle)
    head = fall(1000, 101, many, steep)
    short = total - int(head.sum() + rest.sum())
    head[1 : 1 + abs(short)] += 1 if short > 0 else -1
    return [*map(int, head), *map(int, rest)]


@dataclass(frozen=True)
class Draw:
    """Positions in the balanced set.

    Attributes:
        train: (N,) int64, class after class, each in shuffled order as the released code keeps it.
        val: (V,) int64, class after class; the images that come next in each shuffled class.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]


def draw_long_tail(
    labels: NDArray[np.int64],
    counts: Sequence[int],
    *,
    val_per_class: int = 0,
    class_names: Sequence[str] | None = None,
) -> Draw:
    """Keep ``counts[j]`` images of each class j, by the draw of LDAM-DRW.

    The validation images are the next ones of the same shuffled list, so that asking for them
    does not change the training draw. A class of which nothing is left over gets none, or fewer.

    Args:
        labels: (M,) labels of the balanced set.
        counts: C training counts.
        val_per_class: validation images a class, where as many are left over.
        class_names: for the sentence of an error.

    Returns:
        The draw.

    Raises:
        LTBenchError: a class with fewer images than its count.
    """
    if val_per_class < 0:
        raise LTBenchError(f"val_per_class must be 0 or more, got {val_per_class}")
    random = np.random.RandomState(0)  # as the released code has it
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(len(counts) + 1))
    train, val = [], []
    # A loop over classes: the draw is sequential by definition, and made once.
    for j, count in enumerate(counts):
        of_class = order[bounds[j] : bounds[j + 1]].astype(np.int64)
        if len(of_class) < count:
            name = f"{class_names[j]!r} " if class_names is not None else ""
            raise LTBenchError(
                f"class {j} {name}has {len(of_class)} images, the profile asks for {count}; "
                "lower the largest count or check the data"
            )
        random.shuffle(of_class)
        train.append(of_class[:count])
        val.append(of_class[count : count + val_per_class])
    return Draw(np.concatenate(train), np.concatenate(val))
