"""The folders that torchvision makes: CIFAR's python batches and Fashion-MNIST's idx files.

CIFAR's batches are pickles. They are read by an unpickler that knows NumPy arrays and plain
containers and refuses everything else, so that a file from anywhere cannot run code here.

torchvision itself, which takes seconds to import, is asked for names, addresses and checksums only
where its layout is found or to be fetched.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_bench.data.sources.arrays import ArraySource
from lt_bench.data.sources.source import Sources
from lt_bench.errors import LTBenchError

_CIFAR = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py", "labels", "label_names"),
    "cifar100": ("CIFAR100", "cifar-100-python", "fine_labels", "fine_label_names"),
}
_CIFAR_MARKS = {"cifar10": ("batches.meta", "data_batch_1"), "cifar100": ("meta", "train")}
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _vision(name: str) -> Any:
    """torchvision's dataset class of that name."""
    from torchvision import datasets

    return getattr(datasets, name)


class _ArrayUnpickler(pickle.Unpickler):
    """Admits what a pickled NumPy array is made of, under its names in NumPy 1 and 2."""

    _ADMITTED = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """The admitted thing of that name.

        Raises:
            pickle.UnpicklingError: anything else.
        """
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._ADMITTED[module, name]


def find_cifar(place: Path, name: str) -> Sources | None:
    """CIFAR's python batches in ``place`` or its folder ``cifar-10-batches-py``, else None.

    Args:
        place: where to look.
        name: ``"cifar10"`` or ``"cifar100"``.

    Raises:
        LTBenchError: a batch is missing, cannot be read, or holds something else.
    """
    vision_name, base, label_key, names_key = _CIFAR[name]
    for folder in (place / base, place):
        there = [(folder / mark).is_file() for mark in _CIFAR_MARKS[name]]
        # In another folder a lone file called "train" or "meta" says nothing.
        if all(there) or (folder.name == base and any(there)):
            break
    else:
        return None
    layout = _vision(vision_name)
    train_files = [file for file, _ in layout.train_list]
    meta = _unpickle(folder / layout.meta["filename"])
    names = meta.get(names_key)
    classes = tuple(map(str, names)) if isinstance(names, list) else None

    def split(files: list[str]) -> ArraySource:
        batches = [_cifar_batch(folder / file, label_key) for file in files]
        images = np.concatenate([pixels for pixels, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        return ArraySource(images, labels, str(folder), classes)

    return Sources("torchvision", split(train_files), None, split([f for f, _ in layout.test_list]))


def _cifar_batch(file: Path, label_key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    held = _unpickle(file)
    pixels, labels = held.get("data"), held.get(label_key)
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.ndim != 2
        or pixels.shape[1] != 3 * 32 * 32
        or not isinstance(labels, list)
    ):
        raise LTBenchError(
            f"{file} holds no CIFAR batch: expected 'data' of shape (M, 3072) and a list "
            f"{label_key!r}; delete the folder and fetch it again"
        )
    return pixels.reshape(-1, 3, 32, 32), np.asarray(labels)


def _unpickle(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as handle:
            held = _ArrayUnpickler(handle, encoding="latin1").load()
    except FileNotFoundError as error:
        raise LTBenchError(f"{file} is missing; delete the folder and fetch it again") from error
    # A damaged pickle can fail in any of its instructions; none of them runs foreign code.
    except (
        pickle.UnpicklingError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise LTBenchError(
            f"{file} cannot be read as a CIFAR batch ({error}); delete the folder and fetch it again"
        ) from error
    if not isinstance(held, dict):
        raise LTBenchError(f"{file} holds no CIFAR batch; delete the folder and fetch it again")
    return held


def find_fashion_mnist(place: Path) -> Sources | None:
    """Fashion-MNIST's idx files in ``place``, its ``raw`` or ``FashionMNIST/raw``, else None.

    Raises:
        LTBenchError: a file is missing or cannot be read.
    """
    for folder in (place / "FashionMNIST" / "raw", place / "raw", place):
        if (folder / _IDX_FILES["train"][0]).is_file():
            break
    else:
        return None
    classes = tuple(_vision("FashionMNIST").classes)
    train, test = (
        ArraySource(read_idx(folder / images), read_idx(folder / labels), str(folder / images), classes)
        for images, labels in (_IDX_FILES["train"], _IDX_FILES["test"])
    )
    return Sources("torchvision", train, None, test)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes (LeCun): magic 0, 0, 8, rank, then big-endian sizes.

    Raises:
        LTBenchError: the file is missing, is none, or has another length than its header says.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise LTBenchError(
            f"cannot read {file}: {error.strerror or error}; fetch the dataset again"
        ) from error
    rank = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * rank
    if not 1 <= rank <= 4 or len(content) < start:
        raise LTBenchError(f"{file} is no idx file of bytes; fetch the dataset again")
    shape = struct.unpack(f">{rank}I", content[4:start])
    expected = start + int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise LTBenchError(
            f"{file} is truncated or damaged: its header promises {expected} bytes, it has "
            f"{len(content)}; delete it and fetch the dataset again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def download_cifar(name: str, place: Path) -> None:
    """Fetch CIFAR's archive into ``place`` with torchvision's address and checksum.

    Raises:
        LTBenchError: no connection, or an archive with another checksum.
    """
    from torchvision.datasets.utils import download_and_extract_archive

    layout = _vision(_CIFAR[name][0])
    try:
        download_and_extract_archive(layout.url, str(place), filename=layout.filename, md5=layout.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise _no_download(name, place, error) from error


def download_fashion_mnist(place: Path) -> None:
    """Fetch Fashion-MNIST into ``place/FashionMNIST/raw`` by torchvision.

    Raises:
        LTBenchError: no connection, or a file with another checksum.
    """
    try:
        _vision("FashionMNIST")(str(place), download=True)
    except (OSError, RuntimeError) as error:
        raise _no_download("Fashion-MNIST", place, error) from error


def _no_download(what: str, place: Path, error: Exception) -> LTBenchError:
    reason = " ".join(str(error).split())[:200]
    return LTBenchError(
        f"cannot fetch {what} into {place} ({reason}); check the connection and the folder, or "
        "put a copy there by hand"
    )
