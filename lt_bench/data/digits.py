"""digits_lt: scikit-learn's embedded handwritten digits with a long tail, nothing to download.

1797 real images of 8 x 8 pixels, 174 to 183 a class (Alpaydin and Kaynak, UCI, 1998).
"""

from __future__ import annotations

import numpy as np
import torch

from lt_bench.data.dataset import LongTailData
from lt_bench.data.images import ImageSet
from lt_bench.data.profile import exponential_counts
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

TEST_PER_CLASS = 40
SPLIT_SEED = 0


@DATASETS.register_module(name="digits_lt")
def digits_lt(imbalance_factor: float = 20, largest: int = 114, val_per_class: int = 20) -> LongTailData:
    """Digits, 10 classes, images (N, 1, 8, 8); counts 114 down to 5 at the default.

    Many, medium and few classes are all present under the three conventions of the field. The
    split has a seed of its own: every run sees the same images.

    Args:
        imbalance_factor: IF.
        largest: training images of class 0.
        val_per_class: validation images of each class; 40 a class are for testing.

    Raises:
        LTBenchError: a class has too few images for what is asked.
    """
    from sklearn.datasets import load_digits  # seconds to import, for this dataset alone

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    # Grey levels 0 to 16 fill the range of a byte; 255 / 16 rounded to the nearest.
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    counts = exponential_counts(largest, imbalance_factor, 10)
    random = np.random.RandomState(SPLIT_SEED)
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for j, count in enumerate(counts):
        of_class = np.flatnonzero(labels == j)
        if val_per_class < 0 or len(of_class) < TEST_PER_CLASS + val_per_class + count:
            raise LTBenchError(
                f"digits_lt has {len(of_class)} images of class {j}, asked for are {count} to "
                f"train, {val_per_class} to validate and {TEST_PER_CLASS} to test; "
                "lower largest or val_per_class"
            )
        random.shuffle(of_class)
        parts["test"].append(of_class[:TEST_PER_CLASS])
        kept = TEST_PER_CLASS + count
        parts["train"].append(of_class[TEST_PER_CLASS:kept])
        parts["val"].append(of_class[kept : kept + val_per_class])

    def split(part: str) -> ImageSet:
        places = np.concatenate(parts[part])
        images = torch.from_numpy(pixels[places]).unsqueeze(1)
        return ImageSet(images, torch.from_numpy(labels[places]))

    rule = f"{val_per_class} images a class that come after the training ones" if val_per_class else "none"
    return LongTailData(
        name="digits_lt",
        classes=tuple(str(name) for name in digits.target_names),
        train=split("train"),
        val=split("val") if val_per_class else None,
        test=split("test"),
        facts={
            "imbalance_factor": imbalance_factor,
            "profile": "exponential",
            "draw": f"RandomState({SPLIT_SEED}), classes in order: test, training, validation",
            "source": "sklearn.datasets.load_digits",
            "validation": {"rule": rule},
        },
    )
