"""Fashion-MNIST-LT: the exponential profile and the LDAM-DRW draw on Fashion-MNIST."""

from __future__ import annotations

import os
from functools import partial

from lt_bench.data.dataset import LongTailData
from lt_bench.data.drawn import drawn_data
from lt_bench.data.profile import exponential_counts
from lt_bench.data.sources.find import find_sources, places
from lt_bench.data.sources.npz import find_npz
from lt_bench.data.sources.parquet import find_parquet
from lt_bench.data.sources.torchvision_layout import download_fashion_mnist, find_fashion_mnist
from lt_bench.registry import DATASETS


@DATASETS.register_module(name="fashion_mnist_lt")
def fashion_mnist_lt(
    root: str | os.PathLike[str] | None = None,
    imbalance_factor: float = 100,
    val_per_class: int = 0,
    download: bool = False,
) -> LongTailData:
    """Fashion-MNIST-LT: 10 classes, n_j = int(6000 * IF^(-j/9)), images (N, 1, 28, 28).

    Args:
        root: folder with parquet files, ``fashion_mnist.npz`` or torchvision's layout; None
            looks in ``$LT_BENCH_DATA`` (``./data`` where it is unset) and its ``fashion_mnist``.
        imbalance_factor: IF.
        val_per_class: validation images a class out of those the draw leaves over (class 0
            keeps all of its images and has none).
        download: let torchvision fetch the data where there is none.
    """
    counts = exponential_counts(6000, imbalance_factor, 10)
    sources = find_sources(
        "fashion_mnist",
        places(root, "fashion_mnist"),
        {
            "train-*.parquet and test-*.parquet": find_parquet,
            "fashion_mnist.npz": partial(find_npz, name="fashion_mnist"),
            "torchvision's FashionMNIST/raw": find_fashion_mnist,
        },
        download=download_fashion_mnist if download else None,
    )
    return drawn_data(
        "fashion_mnist_lt",
        sources,
        counts,
        val_per_class=val_per_class,
        facts={"imbalance_factor": imbalance_factor, "profile": "exponential"},
    )
