"""ImageNet-LT: its facts, its lists, where they are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lt_bench.data import public_lists
from lt_bench.data.dataset import LongTailData
from lt_bench.data.imagenet_lt import IMAGENET_LT
from lt_bench.data.images import ImageFiles
from lt_bench.data.public_lists import PUBLIC_LISTS
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import CONVENTIONS, group_sizes
from lt_bench.registry import DATASETS
from tests.image_trees import TRAIN, write_imagenet_lt

SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"


def _build(**given: Any) -> LongTailData:
    data = DATASETS.build(dict(type="imagenet_lt", **given))
    assert isinstance(data, LongTailData)
    return data


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LT_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_imagenet_lt(tmp_path)


def test_a_small_copy_is_read_with_its_own_lists(root: Path) -> None:
    data = _build(root=root, require_public=False)
    assert data.name == "imagenet_lt"
    assert data.counts.tolist() == list(TRAIN)
    assert isinstance(data.train, ImageFiles) and data.train.root == root
    assert data.facts["sizes"] == {"train": 155, "val": 6, "test": 9}
    assert data.facts["validation"] == {"rule": "its own list"}
    json.dumps(data.facts)


def test_lists_are_found_where_the_field_keeps_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = _build(root=root, require_public=False).identity
    elsewhere = root.parent / "splits"
    elsewhere.mkdir()
    for file in root.glob("*.txt"):
        shutil.move(file, elsewhere / file.name)
    with pytest.raises(
        LTBenchError, match="no ImageNet_LT_train.txt in .*imagenet.* data prepare imagenet_lt"
    ):
        _build(root=root, require_public=False)
    assert _build(root=root, lists=elsewhere, require_public=False).identity == identity
    for place in (root / "ImageNet_LT", root.parent / "ImageNet_LT", root.parent / "data" / "ImageNet_LT"):
        shutil.copytree(elsewhere, place)
        assert _build(root=root, require_public=False).identity == identity
        shutil.rmtree(place)
    (root.parent / "base").mkdir()
    root.rename(root.parent / "base" / "imagenet_lt")
    monkeypatch.setenv("LT_BENCH_DATA", str(root.parent / "base"))
    assert _build(root=None, lists=elsewhere, require_public=False).identity == identity


def test_no_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LT_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        LTBenchError, match=r"no ImageNet-LT in data/imagenet_lt or data/ImageNet_LT: set dataset.root"
    ):
        _build(root=None)
    with pytest.raises(LTBenchError, match="image root .*gone is no folder"):
        _build(root=tmp_path / "gone")


def test_other_lists_than_the_public_ones_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        LTBenchError, match="ImageNet_LT_train.txt is not the public one: .* dataset.require_public=false"
    ):
        _build(root=root)
    # The public list of another split is not it either.
    texts = {part: (root / file).read_bytes() for part, file in IMAGENET_LT.lists.items()}
    known = {f"ImageNet_LT_{p}.txt": (len(t), _sha256(t)) for p, t in texts.items()}
    monkeypatch.setattr(public_lists, "PUBLIC_LISTS", known)
    with pytest.raises(LTBenchError, match="no training sample of class 3 .* and 992 more"):
        _build(root=root)  # C is the public one
    (root / "ImageNet_LT_val.txt").write_bytes(texts["test"])
    with pytest.raises(
        LTBenchError, match="is the public ImageNet_LT_test.txt, expected is ImageNet_LT_val.txt"
    ):
        _build(root=root)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_facts_agree_with_themselves() -> None:
    assert set(IMAGENET_LT.lists.values()) <= PUBLIC_LISTS.keys()
    assert all(sum(groups) == IMAGENET_LT.num_classes for groups in IMAGENET_LT.groups.values())
    assert set(IMAGENET_LT.groups) == set(CONVENTIONS)
    assert IMAGENET_LT.lists_at.startswith("https://")


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the public list files")
def test_facts_are_those_of_the_public_counts() -> None:
    counts = torch.tensor([int(n) for n in (SPLITS / "ImageNet_LT_class_counts.txt").read_text().split()])
    assert (len(counts), int(counts.sum())) == (IMAGENET_LT.num_classes, IMAGENET_LT.sizes["train"])
    assert (int(counts.min()), int(counts.max())) == (IMAGENET_LT.smallest, IMAGENET_LT.largest)
    for convention, groups in IMAGENET_LT.groups.items():
        assert tuple(group_sizes(counts, convention).values()) == groups
    for part in ("val", "test"):
        lines = (SPLITS / IMAGENET_LT.lists[part]).read_text().splitlines()
        assert len(lines) == IMAGENET_LT.sizes[part]
