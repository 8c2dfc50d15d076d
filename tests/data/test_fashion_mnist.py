"""Fashion-MNIST-LT from idx files, npz and parquet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lt_bench.data import fashion_mnist
from lt_bench.data.profile import exponential_counts
from lt_bench.data.sources.torchvision_layout import read_idx
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

REAL = Path(__file__).parents[3] / "shared" / "data"
Pixels = NDArray[np.uint8]


def test_every_source_gives_the_same_data(
    tmp_path: Path,
    images: Callable[..., Pixels],
    write_parquet: Callable[..., Path],
    write_idx: Callable[[Path, Pixels], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fashion_mnist, "exponential_counts", lambda _, *rest: exponential_counts(20, *rest))
    train = images(200, 28, 1), np.tile(np.arange(10), 20)
    test = images(30, 28, 1, seed=1), np.tile(np.arange(10), 3)
    raw = tmp_path / "vision" / "FashionMNIST" / "raw"
    for part, (pixels, labels) in {"train": train, "t10k": test}.items():
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    for part, (pixels, labels) in {"train": train, "test": test}.items():
        write_parquet(tmp_path / "hub", part, pixels, labels, image="image", label="label")
    np.savez(
        tmp_path / "fashion_mnist.npz",
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
    )
    roots = [tmp_path / "vision", raw, raw.parent, tmp_path / "hub", tmp_path]
    built = [DATASETS.build(dict(type="fashion_mnist_lt", root=root, imbalance_factor=10)) for root in roots]
    assert len({data.identity for data in built}) == 1
    assert built[0].counts.tolist() == exponential_counts(20, 10, 10)
    assert built[0].train.images.shape[1:] == (1, 28, 28)
    assert built[0].classes[0] == "T-shirt/top"


@pytest.mark.skipif(not (REAL / "FashionMNIST").is_dir(), reason="needs the real Fashion-MNIST")
def test_real_fashion_mnist() -> None:
    data = DATASETS.build(dict(type="fashion_mnist_lt", root=REAL, val_per_class=20))
    assert data.counts.tolist() == [int(6000 * 100 ** (-j / 9)) for j in range(10)]
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    assert torch.bincount(data.val.labels, minlength=10).tolist() == [0] + [20] * 9
    raw = read_idx(REAL / "FashionMNIST" / "raw" / "train-images-idx3-ubyte")
    labels = read_idx(REAL / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte")
    first = np.flatnonzero(labels == 0)
    np.random.RandomState(0).shuffle(first)
    assert torch.equal(data.train.images[:6000, 0], torch.from_numpy(raw[first]))


def test_a_truncated_file_is_named(
    tmp_path: Path, images: Callable[..., Pixels], write_idx: Callable[[Path, Pixels], Path]
) -> None:
    file = write_idx(tmp_path / "train-images-idx3-ubyte", images(10, 28, 1))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LTBenchError, match="train-images-idx3-ubyte is truncated or damaged"):
        DATASETS.build(dict(type="fashion_mnist_lt", root=tmp_path))
