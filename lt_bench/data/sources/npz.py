"""NumPy archives: ``train_images``, ``train_labels``, ``test_images``, ``test_labels``.

Optional keys are ``val_images``, ``val_labels`` and ``classes`` (names). The shapes are those of
:class:`lt_bench.data.sources.arrays.ArraySource`. Pickled content is refused.
"""

from __future__ import annotations

from pathlib import Path

from lt_bench.archives import read_arrays
from lt_bench.data.sources.arrays import ArraySource
from lt_bench.data.sources.source import Sources
from lt_bench.errors import LTBenchError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
VAL_KEYS = ("val_images", "val_labels")


def find_npz(place: Path, name: str) -> Sources | None:
    """``place`` itself if it is an ``.npz`` file, else ``place/<name>.npz``, else None.

    Raises:
        LTBenchError: the archive cannot be read or lacks a key.
    """
    for file in (place, place / f"{name}.npz"):
        if file.suffix == ".npz" and file.is_file():
            return read_npz(file)
    return None


def read_npz(file: Path) -> Sources:
    """The splits in ``file``.

    Raises:
        LTBenchError: the archive cannot be read, holds pickled objects or lacks a key.
    """
    held = read_arrays(file)
    has_val = "val_images" in held or "val_labels" in held
    missing = [key for key in (*KEYS, *(VAL_KEYS if has_val else ())) if key not in held]
    if missing:
        raise LTBenchError(
            f"{file} lacks {', '.join(missing)}: expected {', '.join(KEYS)} and perhaps "
            f"val_images, val_labels and classes, got {', '.join(held) or 'nothing'}"
        )
    if "classes" in held and held["classes"].ndim != 1:
        raise LTBenchError(f"{file}: classes must be a vector of names, got shape {held['classes'].shape}")
    classes = tuple(map(str, held["classes"].tolist())) if "classes" in held else None

    def split(part: str) -> ArraySource:
        images, labels = held[f"{part}_images"], held[f"{part}_labels"]
        return ArraySource(images, labels, f"{part} of {file}", classes)

    return Sources("npz", split("train"), split("val") if has_val else None, split("test"))
