"""Small datasets in every format that is read."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def images() -> Callable[..., NDArray[np.uint8]]:
    """Random pixels, (n, height, width, 3) or (n, height, width)."""

    def make(n: int, size: int = 6, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
        shape = (n, size, size, channels) if channels > 1 else (n, size, size)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def write_parquet() -> Callable[..., Path]:
    """One split in the hub's layout."""

    def write(
        folder: Path,
        part: str,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        image: str = "img",
        label: str = "fine_label",
        names: list[str] | None = None,
        shards: int = 1,
        as_bytes: bool = False,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        encoded = [_png(array) for array in pixels]
        for k, rows in enumerate(np.array_split(np.arange(len(labels)), shards)):
            held = [encoded[i] if as_bytes else {"bytes": encoded[i], "path": ""} for i in rows]
            table = pa.table({image: held, label: pa.array(labels[rows])})
            if names is not None:
                features = {label: {"names": names, "_type": "ClassLabel"}}
                described = json.dumps({"info": {"features": features}})
                table = table.replace_schema_metadata({"huggingface": described})
            pq.write_table(table, folder / f"{part}-{k:05d}-of-{shards:05d}.parquet")
        return folder

    return write


@pytest.fixture
def write_cifar100() -> Callable[..., Path]:
    """torchvision's folder ``cifar-100-python``."""

    def write(
        place: Path,
        train: tuple[NDArray[np.uint8], NDArray[np.int64]],
        test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    ) -> Path:
        folder = place / "cifar-100-python"
        folder.mkdir(parents=True)
        for name, (pixels, labels) in {"train": train, "test": test}.items():
            rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
            held = {"data": rows, "fine_labels": labels.tolist()}
            (folder / name).write_bytes(pickle.dumps(held, protocol=2))
        meta = {"fine_label_names": [f"class {j}" for j in range(100)]}
        (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
        return folder

    return write


@pytest.fixture
def write_idx() -> Callable[[Path, NDArray[np.uint8]], Path]:
    """An idx file of bytes."""

    def write(file: Path, array: NDArray[np.uint8]) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        file.write_bytes(header + array.tobytes())
        return file

    return write
