"""CIFAR-10-LT and CIFAR-100-LT: the draw of the released LDAM-DRW code, image for image."""

from __future__ import annotations

import os
from functools import partial

from lt_bench.data.dataset import LongTailData
from lt_bench.data.drawn import drawn_data
from lt_bench.data.profile import exponential_counts
from lt_bench.data.sources.find import find_sources, places
from lt_bench.data.sources.npz import find_npz
from lt_bench.data.sources.parquet import find_parquet
from lt_bench.data.sources.torchvision_layout import download_cifar, find_cifar
from lt_bench.registry import DATASETS


@DATASETS.register_module(name="cifar100_lt")
def cifar100_lt(
    root: str | os.PathLike[str] | None = None,
    imbalance_factor: float = 100,
    val_per_class: int = 0,
    download: bool = False,
) -> LongTailData:
    """CIFAR-100-LT: 100 classes, 500 down to 500 / IF training images, 10,000 test images.

    N is 10,847 / 12,608 / 19,573 at IF 100 / 50 / 10.

    Args:
        root: folder with parquet files, torchvision's layout or ``cifar100.npz``; None looks
            in ``$LT_BENCH_DATA`` (``./data`` where it is unset) and its ``cifar100``.
        imbalance_factor: IF.
        val_per_class: validation images a class out of those the draw leaves over (class 0
            keeps all of its images and has none).
        download: let torchvision fetch the data where there is none.
    """
    return _cifar("cifar100", 100, 500, root, imbalance_factor, val_per_class, download)


@DATASETS.register_module(name="cifar10_lt")
def cifar10_lt(
    root: str | os.PathLike[str] | None = None,
    imbalance_factor: float = 100,
    val_per_class: int = 0,
    download: bool = False,
) -> LongTailData:
    """CIFAR-10-LT: 10 classes, 5000 down to 5000 / IF training images, 10,000 test images.

    N is 12,406 / 13,996 / 20,431 at IF 100 / 50 / 10. Arguments as for CIFAR-100-LT.
    """
    return _cifar("cifar10", 10, 5000, root, imbalance_factor, val_per_class, download)


def _cifar(
    folder: str,
    num_classes: int,
    largest: int,
    root: str | os.PathLike[str] | None,
    imbalance_factor: float,
    val_per_class: int,
    download: bool,
) -> LongTailData:
    counts = exponential_counts(largest, imbalance_factor, num_classes)
    sources = find_sources(
        folder,
        places(root, folder),
        {
            "train-*.parquet and test-*.parquet": find_parquet,
            f"{folder}.npz": partial(find_npz, name=folder),
            "torchvision's folder of python batches": partial(find_cifar, name=folder),
        },
        download=partial(download_cifar, folder) if download else None,
    )
    return drawn_data(
        f"{folder}_lt",
        sources,
        counts,
        val_per_class=val_per_class,
        facts={"imbalance_factor": imbalance_factor, "profile": "exponential"},
    )
