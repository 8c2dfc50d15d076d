"""Parquet files in the hub's layout, whole and damaged."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lt_bench.data.sources.parquet import ParquetSource, find_parquet
from lt_bench.errors import LTBenchError

Pixels = NDArray[np.uint8]
LABELS = np.arange(10) % 3


def _encoded(pixels: Pixels, format_: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=format_, **({"lossless": True} if format_ == "WEBP" else {}))
    return buffer.getvalue()


def test_rows_keep_their_order_over_shards(
    tmp_path: Path, images: Callable[..., Pixels], write_parquet: Callable[..., Path]
) -> None:
    pixels = images(10)
    write_parquet(tmp_path, "train", pixels, LABELS, shards=3, names=["x", "y", "z"])
    write_parquet(tmp_path, "test", pixels, LABELS, shards=1)
    found = find_parquet(tmp_path)
    assert found is not None
    assert found.val is None
    assert found.classes == ("x", "y", "z")
    assert found.train.labels.tolist() == LABELS.tolist()
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    assert torch.equal(found.train.take().images, expected)
    some = np.array([7, 0, 7])
    assert torch.equal(found.train.read(some), expected[torch.from_numpy(some)])
    assert torch.equal(found.test.take().images, expected)
    write_parquet(tmp_path, "validation", pixels[:4], LABELS[:4])
    with_val = find_parquet(tmp_path)
    assert with_val is not None
    assert with_val.val is not None
    assert len(with_val.val.labels) == 4


def test_formats_and_modes_may_be_mixed(tmp_path: Path, images: Callable[..., Pixels]) -> None:
    coloured, grey = images(2), images(1, 6, 1)
    rows = [
        {"bytes": _encoded(coloured[0], "WEBP")},
        {"bytes": _encoded(grey[0])},
        {"bytes": _encoded(coloured[1])},
    ]
    file = tmp_path / "train-0.parquet"
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 2]}), file)
    source = ParquetSource([file])
    read = source.read(np.arange(3))
    assert torch.equal(read[0], torch.from_numpy(coloured[0]).permute(2, 0, 1))
    assert torch.equal(read[1], torch.from_numpy(grey[0]).expand(3, 6, 6))
    assert torch.equal(read[2], torch.from_numpy(coloured[1]).permute(2, 0, 1))
    assert source.read(np.array([1])).shape == (1, 1, 6, 6)


def test_other_metadata_gives_no_names(
    tmp_path: Path, images: Callable[..., Pixels], write_parquet: Callable[..., Path]
) -> None:
    write_parquet(tmp_path, "train", images(3), LABELS[:3])
    (file,) = tmp_path.glob("*.parquet")
    for metadata in (b"{", b'{"info": null}', b'{"info": {"features": {}}}'):
        pq.write_table(pq.read_table(file).replace_schema_metadata({"huggingface": metadata}), file)
        assert ParquetSource([file]).classes is None
    by_index = b'{"info": {"features": {"fine_label": {"names": {"10": "k", "9": "j"}}}}}'
    pq.write_table(pq.read_table(file).replace_schema_metadata({"huggingface": by_index}), file)
    assert ParquetSource([file]).classes == ("j", "k")


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert find_parquet(tmp_path) is None
    assert find_parquet(tmp_path / "missing") is None


def test_a_missing_test_split_is_told(
    tmp_path: Path, images: Callable[..., Pixels], write_parquet: Callable[..., Path]
) -> None:
    write_parquet(tmp_path, "train", images(3), LABELS[:3])
    with pytest.raises(LTBenchError, match=r"but no test-\*.parquet; add the test split"):
        find_parquet(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.98])
def test_a_truncated_file_is_named(
    tmp_path: Path, images: Callable[..., Pixels], write_parquet: Callable[..., Path], kept: float
) -> None:
    write_parquet(tmp_path, "train", images(10), LABELS)
    (file,) = tmp_path.glob("*.parquet")
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(LTBenchError, match="train-00000.* is no readable parquet file .*fetch it"):
        ParquetSource([file])


def test_damaged_pages_are_named(
    tmp_path: Path, images: Callable[..., Pixels], write_parquet: Callable[..., Path]
) -> None:
    write_parquet(tmp_path, "train", images(10), LABELS)
    (file,) = tmp_path.glob("*.parquet")
    content = file.read_bytes()
    file.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(LTBenchError, match="train-00000"):
        ParquetSource([file]).take()


@pytest.mark.parametrize(
    ("table", "columns", "told"),
    [
        ({"img": [b"x"]}, {}, "no label column 'fine_label' or 'label', only 'img'; name it with"),
        ({"label": [0]}, {}, "no image column 'img' or 'image', only 'label'"),
        ({"img": [b"x"], "label": [0]}, {"label_column": "kind"}, "no label column 'kind'"),
        ({"img": [b"x"], "label": [0]}, {"image_column": "photo"}, "no image column 'photo'"),
        ({"img": [b"x"], "label": ["cat"]}, {}, "vector of integers"),
        ({"img": [b"x"], "label": [0.5]}, {}, "vector of integers, got float64"),
        ({"img": [b"x"], "label": pa.array([None], pa.int64())}, {}, "rows without a label"),
        ({"img": [b"x"], "label": [0]}, {}, "row 0 of .*train-0.parquet holds no image"),
        ({"img": pa.array([None], pa.binary()), "label": [0]}, {}, "row 0 .* holds no image"),
        ({"img": ["path.png"], "label": [0]}, {}, "must hold encoded images, got string"),
        ({"img": [{"path": "a"}], "label": [0]}, {}, "struct with a field 'bytes'"),
    ],
)
def test_refuses(tmp_path: Path, table: dict[str, object], columns: dict[str, str], told: str) -> None:
    file = tmp_path / "train-0.parquet"
    pq.write_table(pa.table(table), file)
    with pytest.raises(LTBenchError, match=told):
        ParquetSource([file], **columns).take()


def test_refuses_images_of_several_sizes_and_empty_files(
    tmp_path: Path, images: Callable[..., Pixels]
) -> None:
    file = tmp_path / "train-0.parquet"
    rows = [_encoded(images(1, size)[0]) for size in (4, 6)]
    pq.write_table(pa.table({"img": rows, "label": [0, 1]}), file)
    with pytest.raises(LTBenchError, match="differ in size .4x4 and 6x6.*use an image_list"):
        ParquetSource([file]).take()
    pq.write_table(pa.table({"img": rows, "label": [0, 1]}).slice(0, 0), file)
    with pytest.raises(LTBenchError, match="has no rows"):
        ParquetSource([file]).take()
