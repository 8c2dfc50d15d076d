"""CIFAR-LT from every source, and the real CIFAR-100 where it is at hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lt_bench.data import cifar
from lt_bench.data.dataset import LongTailData
from lt_bench.data.profile import draw_long_tail, exponential_counts
from lt_bench.data.sources.parquet import ParquetSource
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar100"
Pixels = NDArray[np.uint8]


@pytest.fixture
def balanced(images: Callable[..., Pixels]) -> tuple[tuple[Pixels, NDArray[np.int64]], ...]:
    """A small stand-in: 500 images in 100 classes, of the real size."""
    order = np.random.default_rng(3).permutation(500)
    labels = np.repeat(np.arange(100), 5)[order]
    return (images(500, 32), labels), (images(100, 32, seed=1), np.arange(100))


@pytest.fixture
def five_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in has five images a class where CIFAR-100 has 500."""
    profile = cifar.exponential_counts
    monkeypatch.setattr(cifar, "exponential_counts", lambda largest, *rest: profile(largest // 100, *rest))


@pytest.mark.usefixtures("five_a_class")
def test_every_source_gives_the_same_data(
    tmp_path: Path,
    balanced: tuple[tuple[Pixels, NDArray[np.int64]], ...],
    write_parquet: Callable[..., Path],
    write_cifar100: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, test = balanced
    write_parquet(tmp_path / "hub", "train", *train, shards=3)
    write_parquet(tmp_path / "hub", "test", *test)
    (tmp_path / "archive").mkdir()
    np.savez(
        tmp_path / "archive" / "cifar100.npz",
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
    )
    write_cifar100(tmp_path / "vision", train, test)

    def build(folder: str | None) -> LongTailData:
        root = None if folder is None else tmp_path / folder
        return DATASETS.build(dict(type="cifar100_lt", root=root, imbalance_factor=5, val_per_class=1))

    built = {folder: build(folder) for folder in ("hub", "archive", "vision")}
    assert len({data.identity for data in built.values()}) == 1
    kinds = {data.facts["source"] for data in built.values()}
    assert kinds == {"parquet", "npz", "torchvision"}
    assert built["vision"].classes[99] == "class 99"
    data = built["hub"]
    assert data.classes[:2] == ("0", "1")
    assert data.counts[0] == 5
    assert data.counts[-1] == 1
    assert data.facts["validation"]["classes_without"] == [0]
    assert data.train.images.shape[1:] == (3, 32, 32)

    monkeypatch.setenv("LT_BENCH_DATA", str(tmp_path / "vision"))
    assert build(None).identity == data.identity
    monkeypatch.setenv("LT_BENCH_DATA", str(tmp_path))
    (tmp_path / "hub").rename(tmp_path / "cifar100")
    assert build(None).identity == data.identity
    monkeypatch.delenv("LT_BENCH_DATA")
    monkeypatch.chdir(tmp_path / "archive")
    (tmp_path / "archive" / "cifar100.npz").rename(tmp_path / "elsewhere.npz")
    with pytest.raises(LTBenchError, match=r"no cifar100 in data/cifar100 or data: expected"):
        build(None)


@pytest.mark.usefixtures("five_a_class")
def test_download_fetches_only_what_is_missing(
    tmp_path: Path,
    balanced: tuple[tuple[Pixels, NDArray[np.int64]], ...],
    write_cifar100: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[Path] = []

    def download(name: str, place: Path) -> None:
        fetched.append(place)
        write_cifar100(place, *balanced)

    monkeypatch.setattr(cifar, "download_cifar", download)
    cfg = dict(type="cifar100_lt", root=tmp_path / "new", imbalance_factor=5)
    with pytest.raises(LTBenchError, match="no cifar100 in .*new: expected .*dataset.download=true"):
        DATASETS.build(cfg)
    assert fetched == []
    DATASETS.build({**cfg, "download": True})
    DATASETS.build({**cfg, "download": True})
    assert fetched == [tmp_path / "new"]


def test_a_label_that_is_no_class_is_refused(
    tmp_path: Path, images: Callable[..., Pixels], write_parquet: Callable[..., Path]
) -> None:
    labels = np.array([0, 1, 100])
    write_parquet(tmp_path, "train", images(3), labels)
    write_parquet(tmp_path, "test", images(3), labels)
    with pytest.raises(LTBenchError, match="label 100 at position 2 of .*train-00000.* 0 to 99"):
        DATASETS.build(dict(type="cifar100_lt", root=tmp_path))


def _released_draw(labels: NDArray[np.int64], factor: int) -> list[int]:
    """What the released LDAM-DRW code does, from the global generator."""
    state = np.random.get_state()
    np.random.seed(0)
    chosen: list[int] = []
    for j in range(100):
        indices = np.where(labels == j)[0]
        np.random.shuffle(indices)
        chosen += indices[: int(500 * (1 / factor) ** (j / 99))].tolist()
    np.random.set_state(state)
    return chosen


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real CIFAR-100")
@pytest.mark.parametrize(("factor", "total"), [(100, 10_847), (50, 12_608), (10, 19_573)])
def test_draw_on_the_real_labels(factor: int, total: int) -> None:
    labels = ParquetSource([REAL / "train-00000-of-00001.parquet"]).labels
    draw = draw_long_tail(labels, exponential_counts(500, factor, 100))
    assert draw.train.tolist() == _released_draw(labels, factor)
    assert len(draw.train) == total


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real CIFAR-100")
def test_real_cifar100_has_the_published_images() -> None:
    data = DATASETS.build(dict(type="cifar100_lt", root=REAL, val_per_class=20))
    table = pq.read_table(REAL / "train-00000-of-00001.parquet")
    labels = np.array(table["fine_label"].to_pylist())
    chosen = _released_draw(labels, 100)
    assert data.train.labels.tolist() == labels[chosen].tolist()
    for k in range(0, 10_847, 499):
        encoded = table["img"][chosen[k]].as_py()["bytes"]
        pixels = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        assert torch.equal(data.train.images[k].permute(1, 2, 0), torch.from_numpy(pixels.copy()))
    assert data.facts["validation"]["classes_without"] == [0]
    assert int(torch.bincount(data.val.labels, minlength=100).max()) == 20
    assert torch.bincount(data.test.labels).tolist() == [100] * 100
    # Fixed for good: a stage 1 that was trained on it is found by it.
    assert data.train_identity == "8d33078b3ee3d4497af5f8747278097cc1aaf5a20cf604244dfb36eee42b27f4"
