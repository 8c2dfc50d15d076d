"""Parquet files in the layout of the Hugging Face hub: an encoded image and a label a row.

A folder holds ``train-*.parquet`` and ``test-*.parquet``, and perhaps ``validation-*.parquet``.
The image column is a struct ``{bytes, path}`` (or plain bytes) in any format that PIL decodes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lt_bench.data.decoding import as_rgb
from lt_bench.data.sources.source import Source, Sources, integer_labels
from lt_bench.errors import LTBenchError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("fine_label", "label")


class ParquetSource(Source):
    """One split in one or several parquet files, rows in the order of the files' names.

    Args:
        files: of the split.
        image_column: its name; by default the one of ``img``, ``image`` that is there.
        label_column: its name; by default the one of ``fine_label``, ``label`` that is there.

    Raises:
        LTBenchError: a file that cannot be read, a column that is not there or holds no labels.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self.where = str(files[0]) if len(files) == 1 else f"{files[0].parent}/{files[0].name}, ..."
        schema = _schema(files[0])
        self._image_column = _column(schema, image_column, IMAGE_COLUMNS, "image", files[0])
        label = _column(schema, label_column, LABEL_COLUMNS, "label", files[0])
        self._files = list(files)
        column = _read(files, label)
        if column.null_count:
            raise LTBenchError(f"column {label!r} of {self.where} has rows without a label")
        self.labels = integer_labels(column.to_numpy(), f"column {label!r} of {self.where}")
        self.classes = _class_names(schema, label)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """Decode the images at ``positions``, to (n, 1 or 3, H, W) uint8."""
        column = _read(self._files, self._image_column)
        if pa.types.is_struct(column.type):
            names = [column.type.field(i).name for i in range(column.type.num_fields)]
            if "bytes" not in names:
                raise LTBenchError(
                    f"column {self._image_column!r} of {self.where} must be a struct with a field "
                    f"'bytes', got {column.type}; store the images inside the parquet file"
                )
            column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks])
        if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            raise LTBenchError(
                f"column {self._image_column!r} of {self.where} must hold encoded images, got {column.type}"
            )
        decoded, format_ = [], None
        for place in positions:
            where = f"row {place} of {self.where}"
            pixels, format_ = _decode(column[int(place)].as_py(), format_, where)
            decoded.append(pixels)
        return stack_images(decoded, self.where)


def find_parquet(folder: Path, **columns: str | None) -> Sources | None:
    """The splits in ``folder``, or None where it holds no ``train-*.parquet``.

    Args:
        folder: where to look.
        **columns: ``image_column`` and ``label_column`` of :class:`ParquetSource`.

    Raises:
        LTBenchError: a train split without a test split, or a file that cannot be read.
    """
    train = sorted(folder.glob("train-*.parquet"))
    if not train:
        return None
    test = sorted(folder.glob("test-*.parquet"))
    if not test:
        raise LTBenchError(f"{folder} has train-*.parquet but no test-*.parquet; add the test split")
    val = sorted(folder.glob("validation-*.parquet"))
    return Sources(
        "parquet",
        ParquetSource(train, **columns),
        ParquetSource(val, **columns) if val else None,
        ParquetSource(test, **columns),
    )


def stack_images(decoded: Sequence[NDArray[np.uint8]], where: str) -> Tensor:
    """(H, W) or (H, W, 3) arrays of one size, stacked to (n, 1 or 3, H, W) uint8.

    Raises:
        LTBenchError: images of different sizes, or no image.
    """
    shapes = {array.shape[:2] for array in decoded}
    if len(shapes) > 1:
        (h, w), (h2, w2) = sorted(shapes)[:2]
        raise LTBenchError(
            f"images in {where} differ in size ({h}x{w} and {h2}x{w2}), and a set in memory needs "
            "one size; resize them or use an image_list"
        )
    if not decoded:
        return torch.empty((0, 1, 1, 1), dtype=torch.uint8)
    if len({array.ndim for array in decoded}) > 1:  # grey images among coloured ones
        decoded = [a if a.ndim == 3 else np.repeat(a[:, :, None], 3, 2) for a in decoded]
    stacked = torch.from_numpy(np.stack(decoded))
    planes = stacked.unsqueeze(-1) if stacked.dim() == 3 else stacked
    return planes.permute(0, 3, 1, 2).contiguous()


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file, error) from error


def _read(files: Sequence[Path], column: str) -> pa.ChunkedArray:
    chunks: list[pa.Array] = []
    for file in files:
        try:
            chunks += pq.read_table(file, columns=[column]).column(column).chunks
        except (OSError, KeyError, pa.ArrowException) as error:
            raise _unreadable(file, error) from error
    if not sum(map(len, chunks)):
        raise LTBenchError(f"{files[0]} has no rows; fetch it again")
    return pa.chunked_array(chunks)


def _unreadable(file: Path, error: Exception) -> LTBenchError:
    reason = " ".join(str(error).split())[:160]
    return LTBenchError(f"{file} is no readable parquet file ({reason}); it may be truncated: fetch it again")


def _column(schema: pa.Schema, asked: str | None, known: Sequence[str], what: str, file: Path) -> str:
    for name in known if asked is None else (asked,):
        if name in schema.names:
            return name
    expected = repr(asked) if asked else " or ".join(map(repr, known))
    raise LTBenchError(
        f"{file} has no {what} column {expected}, only {', '.join(map(repr, schema.names))}; "
        f"name it with {what}_column"
    )


def _decode(content: bytes | None, expected: str | None, where: str) -> tuple[NDArray[np.uint8], str | None]:
    """Decode one image, and say its format, which is then tried first for the next one.

    PIL otherwise asks every decoder it has, which takes longer than decoding a small image.
    """
    for formats in ((expected,), None) if expected else (None,):
        try:
            with Image.open(io.BytesIO(content or b""), formats=formats) as image:
                grey = image.mode in ("1", "L")
                return np.asarray(image.convert("L") if grey else as_rgb(image)), image.format
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            failure = error
    raise LTBenchError(
        f"{where} holds no image that can be decoded ({failure}); fetch the file again"
    ) from failure


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Names from the ``huggingface`` key of the file's metadata, where it has one."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return None
    try:
        names = json.loads(raw)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None  # other tools write other metadata there; names are then unknown
    if isinstance(names, dict):  # {"0": name, ...} in some versions
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(map(str, names))
