"""The checked dataset, its counts and its identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lt_bench.data.dataset import LongTailData
from lt_bench.data.images import ImageFiles, ImageSet
from lt_bench.engine.data import build_data
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS


def _split(labels: list[int], fill: int = 0) -> ImageSet:
    pixels = torch.arange(len(labels) * 4).view(-1, 1, 2, 2) + fill
    return ImageSet(pixels.to(torch.uint8), torch.tensor(labels, dtype=torch.int64))


def _data(
    train: ImageSet | None = None,
    val: ImageSet | None = None,
    test: ImageSet | None = None,
    classes: tuple[str, ...] = ("a", "b", "c"),
) -> LongTailData:
    return LongTailData(
        "of_a_test", classes, train or _split([0, 0, 0, 1, 2]), val, test or _split([0, 1, 2])
    )


def test_counts_and_facts() -> None:
    data = _data(val=_split([1]))
    assert data.counts.tolist() == [3, 1, 1]
    assert data.counts.dtype == torch.int64
    assert data.num_classes == 3
    assert list(data.splits()) == ["train", "val", "test"]
    assert data.facts["sizes"] == {"train": 5, "val": 1, "test": 3}
    assert data.facts["imbalance_factor"] == 3.0
    json.dumps(data.facts)
    assert list(_data().splits()) == ["train", "test"]


@pytest.mark.parametrize("shape", [(3, 3, 2, 2), (3, 1, 4, 2)])
def test_splits_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    test = ImageSet(torch.zeros(shape, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    with pytest.raises(LTBenchError, match=r"differ in \(channels, height, width\): train \(1, 2, 2\), test"):
        _data(test=test)


def test_an_empty_validation_split_is_refused() -> None:
    with pytest.raises(LTBenchError, match="the val split of of_a_test is empty; .*or leave it out"):
        _data(val=_split([]))


def test_a_stated_imbalance_factor_stays() -> None:
    split = _split([0, 1])
    data = LongTailData("x", ("a", "b"), split, None, split, {"imbalance_factor": 100})
    assert data.facts["imbalance_factor"] == 100


def test_identity_changes_with_content_and_with_nothing_else() -> None:
    identity = _data().identity
    assert len(identity) == 64
    assert _data(classes=("x", "y", "z")).identity == identity
    changed = [
        _data(classes=("a", "b", "c", "d"), train=_split([0, 1, 2, 3])),
        _data(train=_split([0, 0, 1, 1, 2])),
        _data(train=_split([0, 0, 0, 1, 2], fill=1)),
        _data(test=_split([0, 1, 1])),
        _data(test=_split([0, 1, 2], fill=1)),
        _data(val=_split([0])),
    ]
    assert len({identity, *(data.identity for data in changed)}) == 7


def test_train_identity_depends_on_training_alone() -> None:
    identity = _data().train_identity
    assert _data(val=_split([0]), test=_split([2])).train_identity == identity
    assert _data(train=_split([0, 0, 1, 1, 2])).train_identity != identity
    assert _data().identity != identity


def test_identity_does_not_depend_on_memory_layout_or_version() -> None:
    strided = _split([0, 0, 0, 1, 2])
    strided = ImageSet(strided.images.repeat_interleave(2, 0)[::2], strided.labels.repeat_interleave(2)[::2])
    spread = strided.images.transpose(2, 3).contiguous().transpose(2, 3)
    same = _data(train=ImageSet(spread, strided.labels)).identity
    assert same == _data(train=strided).identity
    # Fixed for good: stored runs are found by it.
    assert same == "ea5fec0d75c3be848ce857e57a8d9ceea91cc6ecd57739e69152c94a0b69fa01"


def test_identity_of_files_counts_paths_and_sizes(tmp_path: Path) -> None:
    def data(folder: str, content: bytes) -> LongTailData:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        (root / "a.png").write_bytes(content)
        (root / "b.png").write_bytes(b"12")
        files = ImageFiles(("a.png", "b.png"), torch.tensor([0, 1]), root)
        return LongTailData("files", ("one", "two"), files, None, files)

    first = data("here", b"1234").identity
    assert data("there", b"1234").identity == first
    assert data("here", b"12345").identity != first
    broken = data("here", b"1")
    (tmp_path / "here" / "a.png").unlink()
    with pytest.raises(LTBenchError, match="cannot read image .*a.png"):
        _ = broken.identity


@pytest.mark.parametrize(
    ("train", "test", "classes", "told"),
    [
        ([0, 1, 3], [0], ("a", "b", "c"), "label 3 at position 2 of the train split of bad"),
        ([0, 1, 2], [0, -2], ("a", "b", "c"), "label -2 at position 1 of the test split of bad"),
        ([0, 2], [1], ("a", "b", "c"), r"no training sample of class 1 \('b'\); add one or remove"),
        ([0], [0], tuple("abcdefgh"), r"class 1 \('b'\), .* and 2 more"),
        ([0, 1], [], ("a", "b"), "the test split of bad is empty"),
        ([], [0], ("a", "b"), "the train split of bad is empty"),
        ([0], [0], (), "has no classes"),
        ([0], [0], ("a",), "bad has one class, 'a'; give two or more"),
    ],
)
def test_refuses(train: list[int], test: list[int], classes: tuple[str, ...], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        LongTailData("bad", classes, _split(train), None, _split(test))


def test_a_builder_that_returns_something_else_is_refused() -> None:
    @DATASETS.register_module("unfinished_lt")
    def unfinished(path: str) -> LongTailData: ...  # type: ignore[empty-body]

    with pytest.raises(LTBenchError, match="dataset 'unfinished_lt' gives NoneType and no LongTailData"):
        build_data({"type": "unfinished_lt", "path": "mine.npz"})
