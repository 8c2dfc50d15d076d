"""array_lt: a user's own archive or parquet files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lt_bench.data.arrays import _largest_profile
from lt_bench.data.profile import exponential_counts
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

Pixels = NDArray[np.uint8]


@pytest.fixture
def archive(tmp_path: Path, images: Callable[..., Pixels]) -> Callable[..., Path]:
    """Writes mine.npz, 4 classes of 12, 9, 6 and 3; keywords replace an entry or, None, drop it."""

    def write(**changed: Any) -> Path:
        labels = np.repeat(np.arange(4), [12, 9, 6, 3])
        held: dict[str, Any] = dict(
            train_images=images(30),
            train_labels=labels,
            test_images=images(8, seed=1),
            test_labels=np.arange(8) % 4,
        )
        held = {key: value for key, value in (held | changed).items() if value is not None}
        np.savez(tmp_path / "mine.npz", **held)
        return tmp_path / "mine.npz"

    return write


def _build(path: Path, **own: Any) -> Any:
    return DATASETS.build(dict(type="array_lt", path=path, **own))


def test_taken_as_it_is(
    tmp_path: Path,
    archive: Callable[..., Path],
    images: Callable[..., Pixels],
    write_parquet: Callable[..., Path],
) -> None:
    path = archive(val_images=images(4, seed=2), val_labels=np.arange(4))
    data = _build(path, name="birds")
    assert data.name == "birds"
    assert data.counts.tolist() == [12, 9, 6, 3]
    assert data.classes == ("0", "1", "2", "3")
    assert data.facts["imbalance_factor"] == 4.0
    assert data.facts["validation"] == {"rule": "the source's own validation split"}
    assert torch.equal(data.train.images, torch.from_numpy(images(30)).permute(0, 3, 1, 2))
    held = np.load(path)
    for part, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        write_parquet(
            tmp_path / "hub",
            name,
            held[f"{part}_images"],
            held[f"{part}_labels"],
            image="picture",
            label="kind",
            names=["wren", "tit", "owl", "jay"],
            as_bytes=True,
        )
    own = _build(tmp_path / "hub", image_column="picture", label_column="kind")
    assert own.identity == data.identity
    assert own.classes == ("wren", "tit", "owl", "jay")
    assert _build(archive(), name="birds").val is None


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "NHW1"])
def test_layouts_of_images(archive: Callable[..., Path], layout: str) -> None:
    channels = 3 if layout in ("NHWC", "NCHW") else 1
    planes = np.random.default_rng(0).integers(0, 256, (38, channels, 5, 7), dtype=np.uint8)
    stored = {
        "NHWC": planes.transpose(0, 2, 3, 1),
        "NCHW": planes,
        "NHW": planes[:, 0],
        "NHW1": planes.transpose(0, 2, 3, 1),
    }[layout]
    data = _build(archive(train_images=stored[:30], test_images=stored[30:]))
    assert torch.equal(data.train.images, torch.from_numpy(planes[:30]))
    assert torch.equal(data.test.images, torch.from_numpy(planes[30:]))


def test_drawn_profile(archive: Callable[..., Path], images: Callable[..., Pixels]) -> None:
    balanced = dict(train_images=images(80), train_labels=np.arange(80) % 4)
    data = _build(
        archive(**balanced, classes=np.array(["a", "b", "c", "d"])),
        imbalance_factor=10,
        val_per_class=3,
    )
    assert data.counts.tolist() == exponential_counts(20, 10, 4)
    assert data.classes == ("a", "b", "c", "d")
    assert torch.bincount(data.val.labels, minlength=4).tolist() == [0, 3, 3, 3]
    assert data.facts["largest"] == 20
    smaller = _build(archive(**balanced), imbalance_factor=10, largest=10)
    assert smaller.counts.tolist() == exponential_counts(10, 10, 4)
    with pytest.raises(LTBenchError, match="class 0 .*has 20 images, the profile asks for 21"):
        _build(archive(**balanced), imbalance_factor=10, largest=21)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=2, max_size=40),
    st.one_of(st.floats(1, 1000), st.sampled_from([10.0, 50.0, 100.0])),
)
def test_largest_profile_is_the_largest_that_fits(available: list[int], factor: float) -> None:
    def fits(largest: int) -> bool:
        counts = [int(largest * factor ** (-j / (len(available) - 1))) for j in range(len(available))]
        return all(count <= have for count, have in zip(counts, available, strict=True))

    largest = _largest_profile(np.array(available), factor)
    assert fits(largest)
    assert not fits(largest + 2)


@pytest.mark.parametrize(
    ("changed", "own", "told"),
    [
        ({"train_labels": None}, {}, "lacks train_labels: expected train_images"),
        ({"val_images": np.zeros((1, 6, 6, 3), np.uint8)}, {}, "lacks val_labels"),
        ({"train_images": np.zeros((30, 6, 6, 3), np.float32)}, {}, "uint8 of shape .*float32"),
        ({"train_images": np.zeros((30, 36), np.uint8)}, {}, r"got uint8 of shape \(30, 36\)"),
        ({"train_images": np.zeros((29, 6, 6, 3), np.uint8)}, {}, "29 images and 30 labels"),
        ({"train_labels": np.zeros(30)}, {}, "vector of integers, got float64"),
        ({"train_labels": np.zeros((30, 1), int)}, {}, r"got int64 of shape \(30, 1\)"),
        ({"test_labels": np.arange(8) - 1}, {}, "label -1 at position 0 of the test split"),
        ({"train_labels": np.arange(30) - 1}, {}, "label -1 at position 0 of the train split"),
        ({"test_labels": np.arange(8)}, {}, r"no training sample of class 4 \('4'\)"),
        ({"test_labels": np.full(8, 10**12)}, {}, "highest label of .* is 1000000000000"),
        ({"classes": np.array(["a", "b"])}, {}, "label 2 at position 21 of the train split"),
        ({"classes": np.array([{"a": 1}], dtype=object)}, {}, "no readable npz archive"),
        ({}, {"classes": ["a"]}, "label 1 at position 12"),
        ({}, {"val_per_class": 2}, "taken as it is, so val_per_class and largest have nothing"),
        ({}, {"imbalance_factor": 0.1}, "imbalance_factor must be 1 or more"),
        ({}, {"imbalance_factor": 500}, "no training sample"),
        ({}, {"imbalance_factor": 10**400}, "no training sample"),
        (
            {"train_labels": np.repeat([0, 1, 3], 10)},
            {"imbalance_factor": 10},
            "no training sample of class 2",
        ),
        ({"train_labels": np.repeat([1, 2, 3], 10)}, {"imbalance_factor": 2}, "class 0 .*count from 1"),
        (
            {"train_labels": np.repeat([1, 2, 3], 10), "test_labels": np.arange(8) % 3 + 1},
            {},
            "class 0 .*where labels count from 1, subtract 1",
        ),
    ],
)
def test_refuses(
    archive: Callable[..., Path], changed: dict[str, Any], own: dict[str, Any], told: str
) -> None:
    with pytest.raises(LTBenchError, match=told):
        _build(archive(**changed), **own)


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_named(archive: Callable[..., Path], kept: float) -> None:
    path = archive()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(LTBenchError, match="mine.npz is no readable npz archive"):
        _build(path)


def test_a_damaged_archive_is_named(archive: Callable[..., Path]) -> None:
    path = archive()
    content = bytearray(path.read_bytes())
    content[500] ^= 0xFF  # in the pixels, which the archive's checksum covers
    path.write_bytes(content)
    with pytest.raises(LTBenchError, match="mine.npz is no readable npz archive"):
        _build(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        LTBenchError, match="no array_lt in .*gone.npz: expected an .npz file.*correct dataset.path"
    ):
        _build(tmp_path / "gone.npz")
