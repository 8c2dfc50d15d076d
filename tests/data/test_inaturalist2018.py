"""iNaturalist 2018: the official JSON gives the data of the lists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lt_bench.data import public_lists
from lt_bench.data.dataset import LongTailData
from lt_bench.data.inaturalist2018 import INATURALIST2018, list_of_json
from lt_bench.data.public_lists import PUBLIC_LISTS, public_name
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS
from tests.image_trees import write_inaturalist

SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"


def _build(**given: Any) -> LongTailData:
    data = DATASETS.build(dict(type="inaturalist2018", **{"require_public": False, **given}))
    assert isinstance(data, LongTailData)
    return data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_inaturalist(tmp_path)


def test_json_and_lists_give_the_same_data(root: Path) -> None:
    lists, official = _build(root=root, lists=root), _build(root=root, annotations=root)
    assert lists.facts["source"] == "image list" and official.facts["source"] == "official JSON"
    assert official.train.paths == lists.train.paths  # type: ignore[union-attr]
    assert torch.equal(official.train.labels, lists.train.labels)
    assert torch.equal(official.test.labels, lists.test.labels)
    assert official.classes == lists.classes == ("0", "1", "2")
    assert official.identity == lists.identity
    assert lists.val is None and lists.facts["validation"] == {"rule": "none"}
    assert lists.counts.tolist() == [9, 4, 2]
    held = official.facts["lists"]["train"]
    assert held["file"] == "train2018.json"
    assert held["sha256"] == hashlib.sha256((root / "train2018.json").read_bytes()).hexdigest()


def test_the_json_in_the_root_is_read_where_there_are_no_lists(root: Path) -> None:
    identity = _build(root=root).identity
    for file in root.glob("*.txt"):
        file.unlink()
    data = _build(root=root)
    assert data.facts["source"] == "official JSON" and data.identity == identity
    for file in root.glob("*.json"):
        file.unlink()
    with pytest.raises(LTBenchError, match="no iNaturalist18_train.txt in"):
        _build(root=root)
    with pytest.raises(LTBenchError, match="lists or from annotations; give one"):
        _build(root=root, lists=root, annotations=root)
    with pytest.raises(LTBenchError, match="cannot read list .*train2018.json"):
        _build(root=root, annotations=root)


def test_the_json_is_held_against_the_public_lists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LTBenchError, match="train2018.json is not the public one"):
        _build(root=root, annotations=root, require_public=True)
    texts = {file: (root / file).read_bytes() for file in INATURALIST2018.lists.values()}
    known = {file: (len(text), hashlib.sha256(text).hexdigest()) for file, text in texts.items()}
    monkeypatch.setattr(public_lists, "PUBLIC_LISTS", known)
    content = list_of_json(root / "train2018.json").content
    assert public_name(content) == "iNaturalist18_train.txt"


def _without_an_annotation(held: dict[str, Any]) -> None:
    held["annotations"].pop()


def _twice(held: dict[str, Any]) -> None:
    held["annotations"].append(dict(held["annotations"][0], category_id=2))


def _unlisted(held: dict[str, Any]) -> None:
    held["annotations"].append({"id": 1, "image_id": 1, "category_id": 2})


def _categories_of_another_year(held: dict[str, Any]) -> None:
    held["categories"] = held["categories"][1:]


def _no_images(held: dict[str, Any]) -> None:
    del held["images"]


def _not_a_number(held: dict[str, Any]) -> None:
    held["annotations"][0]["category_id"] = "wren"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_without_an_annotation, "has no 1000 where one is expected"),
        (_twice, "annotates 1 images twice"),
        (_unlisted, "annotates image 1, which it does not list"),
        (_categories_of_another_year, "not numbered 0 to 1"),
        (_no_images, "has no 'images'"),
        (_not_a_number, "is no annotation file of iNaturalist 2018"),
    ],
)
def test_refuses_a_json(root: Path, damage: Callable[[dict[str, Any]], None], told: str) -> None:
    file = root / "train2018.json"
    held = json.loads(file.read_text())
    damage(held)
    file.write_text(json.dumps(held))
    with pytest.raises(LTBenchError, match=told):
        list_of_json(file)


@pytest.mark.parametrize("content", ["", "[]", '{"images"', "no json"])
def test_refuses_another_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(LTBenchError, match="is no annotation file"):
        list_of_json(tmp_path / "x.json")


def test_facts() -> None:
    assert set(INATURALIST2018.lists.values()) <= PUBLIC_LISTS.keys()
    assert INATURALIST2018.sizes == {"train": 437_513, "test": 24_426}
    assert INATURALIST2018.groups == {"strict": (842, 4076, 3224)}
    assert sum(INATURALIST2018.groups["strict"]) == INATURALIST2018.num_classes == 8142


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the public list files")
def test_the_public_test_list() -> None:
    lines = (SPLITS / "iNaturalist18_val.txt").read_text().splitlines()
    labels = torch.tensor([int(line.rpartition(" ")[2]) for line in lines])
    assert len(labels) == INATURALIST2018.sizes["test"]
    assert torch.equal(labels.bincount(), torch.full((INATURALIST2018.num_classes,), 3))
