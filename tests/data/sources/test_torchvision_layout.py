"""CIFAR's pickles, read without trusting them, and idx files."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lt_bench.data.sources.torchvision_layout import (
    download_cifar,
    download_fashion_mnist,
    find_cifar,
    find_fashion_mnist,
    read_idx,
)
from lt_bench.errors import LTBenchError

Pixels = NDArray[np.uint8]


class _Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did, with which CIFAR's batches were made."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_old_string(self, held: str | bytes) -> None:
        content = held.encode("latin1") if isinstance(held, str) else held
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(held)

    dispatch[str] = save_old_string
    dispatch[bytes] = save_old_string


def _write_old(file: Path, held: dict[str, Any]) -> None:
    with open(file, "wb") as handle:
        _Python2Pickler(handle, protocol=2).dump(held)
    content = file.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    file.write_bytes(content)


@pytest.fixture
def cifar10(tmp_path: Path, images: Callable[..., Pixels]) -> Path:
    """cifar-10-batches-py as Python 2 wrote it: five batches of six images."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for k, name in enumerate(names):
        rows = images(6, 32, seed=k).transpose(0, 3, 1, 2).reshape(6, -1)
        _write_old(folder / name, {"data": rows, "labels": [(k + i) % 10 for i in range(6)]})
    _write_old(folder / "batches.meta", {"label_names": [f"kind {j}" for j in range(10)]})
    return folder


def test_reads_the_batches_of_python_2(cifar10: Path, images: Callable[..., Pixels]) -> None:
    for place in (cifar10, cifar10.parent):
        found = find_cifar(place, "cifar10")
        assert found is not None
        assert found.classes == tuple(f"kind {j}" for j in range(10))
        expected = np.concatenate([images(6, 32, seed=k) for k in range(5)])
        assert torch.equal(found.train.take().images, torch.from_numpy(expected).permute(0, 3, 1, 2))
        assert found.train.labels.tolist() == [(k + i) % 10 for k in range(5) for i in range(6)]
        assert len(found.test.labels) == 6
    assert find_cifar(cifar10, "cifar100") is None


class _Intruder:
    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._mark,)


def test_a_pickle_cannot_run_code(cifar10: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was here"
    content = pickle.dumps({"data": _Intruder(mark), "labels": []}, protocol=2)
    (cifar10 / "data_batch_2").write_bytes(content)
    with pytest.raises(LTBenchError, match=r"data_batch_2 cannot be read .*it asks for posix.mkdir"):
        find_cifar(cifar10, "cifar10")
    assert not mark.exists()
    pickle.loads(content)  # the same file, trusted, does run it
    assert mark.exists()


@pytest.mark.parametrize("kept", [0, 1, 60, 3000, -1])
def test_a_truncated_batch_is_named(cifar10: Path, kept: int) -> None:
    file = cifar10 / "data_batch_3"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(LTBenchError, match="data_batch_3 .*delete the folder and fetch it again"):
        find_cifar(cifar10, "cifar10")


def test_a_missing_batch_is_named(cifar10: Path) -> None:
    (cifar10 / "data_batch_4").unlink()
    with pytest.raises(LTBenchError, match="data_batch_4 is missing"):
        find_cifar(cifar10, "cifar10")


@pytest.mark.parametrize(
    "held",
    [
        [1, 2],
        {"labels": [0]},
        {"data": np.zeros((1, 3072), np.uint8)},
        {"data": np.zeros((1, 100), np.uint8), "labels": [0]},
        {"data": [1], "labels": [0]},
    ],
)
def test_a_batch_with_other_content_is_named(cifar10: Path, held: object) -> None:
    (cifar10 / "data_batch_1").write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(LTBenchError, match="data_batch_1 holds no CIFAR batch"):
        find_cifar(cifar10, "cifar10")


def test_labels_that_are_no_integers_are_refused(cifar10: Path) -> None:
    held = {"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}
    (cifar10 / "test_batch").write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(LTBenchError, match="vector of integers"):
        find_cifar(cifar10, "cifar10")


def test_idx_keeps_shape_and_bytes(
    tmp_path: Path, write_idx: Callable[[Path, Pixels], Path], images: Callable[..., Pixels]
) -> None:
    for array in (images(4, 5, 1), np.arange(7, dtype=np.uint8)):
        read = read_idx(write_idx(tmp_path / "idx", array))
        assert np.array_equal(read, array)
        assert read.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no idx file"),
        (b"\0\0\x08", "is no idx file"),
        (b"\0\0\x08\x03\0\0", "is no idx file"),
        (b"\x1f\x8b\x08\x03" + bytes(20), "is no idx file"),
        (b"\0\0\x0d\x01\0\0\0\x01" + bytes(4), "is no idx file of bytes"),
        (b"\0\0\x08\x01\0\0\0\x05abcd", "truncated or damaged: .* promises 13 bytes, it has 12"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", "truncated or damaged: .* promises 11 bytes, it has 12"),
        (b"\0\0\x08\x04" + b"\xff" * 16 + b"abcd", "truncated or damaged|is no idx file"),
    ],
)
def test_idx_refuses(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "idx").write_bytes(content)
    with pytest.raises(LTBenchError, match=told):
        read_idx(tmp_path / "idx")


def test_a_missing_idx_file_is_named(
    tmp_path: Path, write_idx: Callable[[Path, Pixels], Path], images: Callable[..., Pixels]
) -> None:
    assert find_fashion_mnist(tmp_path) is None
    write_idx(tmp_path / "train-images-idx3-ubyte", images(4, 5, 1))
    with pytest.raises(LTBenchError, match="cannot read .*train-labels-idx1-ubyte"):
        find_fashion_mnist(tmp_path)


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", fail)
    with pytest.raises(LTBenchError, match=r"cannot fetch cifar10 into .* \(no route to host\)"):
        download_cifar("cifar10", tmp_path)
    with pytest.raises(LTBenchError, match="cannot fetch Fashion-MNIST"):
        download_fashion_mnist(tmp_path)


def test_cifar_is_fetched_with_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def note(url: str, root: str, **own: object) -> None:
        asked.update(own, url=url, root=root)

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", note)
    download_cifar("cifar100", tmp_path)
    assert asked["root"] == str(tmp_path)
    assert asked["md5"] == "eb9058c3a382ffc7106e4002c42a8d85"
    assert str(asked["url"]).endswith("cifar-100-python.tar.gz")


def test_a_lone_file_of_such_a_name_is_not_cifar(tmp_path: Path, cifar10: Path) -> None:
    (tmp_path / "train").write_text("something else")
    assert find_cifar(tmp_path, "cifar100") is None
    (cifar10 / "batches.meta").unlink()
    with pytest.raises(LTBenchError, match="batches.meta is missing"):
        find_cifar(cifar10, "cifar10")
