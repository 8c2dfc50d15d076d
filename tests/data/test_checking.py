"""A report names everything that is wrong with a copy, and nothing that is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lt_bench.data import public_lists
from lt_bench.data.checking import Report, check_lists
from lt_bench.data.image_list import ListText
from lt_bench.data.imagenet_lt import IMAGENET_LT
from lt_bench.errors import LTBenchError
from tests.image_trees import TRAIN, WNIDS, write_imagenet_lt

FILES = IMAGENET_LT.lists


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagenet_lt(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "imagenet")
    return tmp_path / "imagenet"


def _check(root: Path, **own: Any) -> Report:
    texts = own.pop("texts", None) or {
        part: ListText(root / file, (root / file).read_bytes()) for part, file in FILES.items()
    }
    return check_lists("imagenet_lt", root, texts, **{"folders_are_classes": True, **own})


def _told(report: Report) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.split, finding.item) for finding in report.findings]


def _edit(root: Path, part: str, old: str, new: str) -> None:
    file = root / FILES[part]
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def _image(wnid: int, number: int, top: str = "train") -> str:
    return f"{top}/{WNIDS[wnid]}/{WNIDS[wnid] if top == 'train' else 'ILSVRC2012_val'}_{number}.JPEG"


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_copy(sound: Path, deep: bool) -> None:
    report = _check(sound, decode=deep, hash_content=deep)
    assert report.sound and report.findings == [] and report.hints == []
    assert report.splits["train"].listed.tolist() == list(TRAIN)
    for split in report.splits.values():
        assert torch.equal(split.listed, split.present) and torch.equal(split.listed, split.sound)
        assert split.version == "own" and split.expected is None


def test_every_fault_is_told_at_once(root: Path) -> None:
    (root / _image(0, 3)).unlink()
    (root / _image(2, 0)).write_bytes(b"")
    whole = (root / _image(1, 7)).read_bytes()
    (root / _image(1, 7)).write_bytes(whole[: len(whole) - 200])
    (root / _image(1, 1, "val")).write_text("<html>not found</html>")
    _edit(root, "train", f"{_image(0, 5)} 0\n", f"{_image(0, 5)} 2\n{_image(0, 6)} 0\nno label\n")
    _edit(root, "val", f"{_image(1, 5000)} 1\n", f"{_image(1, 5000)} 7\n{_image(0, 9)} 0\n")
    report = _check(root)
    assert _told(report) == [
        ("malformed line", "train", "no label"),
        ("duplicated", "train", _image(0, 6)),
        ("duplicated", "val", _image(0, 9)),
        ("mislabelled", "val", _image(1, 5000)),  # no class
        ("mislabelled", "train", _image(0, 5)),
        ("mislabelled", "val", _image(1, 5000)),  # another label than its folder's
        ("missing image", "train", _image(0, 3)),
        ("truncated", "train", _image(2, 0)),
        ("truncated", "train", _image(1, 7)),
        ("undecodable", "test", _image(1, 1, "val")),
    ]
    train = report.splits["train"]
    assert train.listed.tolist() == [119, 30, 6]
    assert train.present.tolist() == [118, 30, 6]
    assert train.sound.tolist() == [118, 29, 5]
    assert not report.sound
    assert report.summary().startswith(
        f"imagenet_lt in {root} is not sound: malformed line (1), duplicated (2)"
    )
    by_item = {finding.item: finding for finding in report.findings}
    assert by_item[_image(0, 5)].detail == f"label 2, its folder {WNIDS[0]} has label 0"
    assert by_item[_image(2, 0)].detail == "0 bytes"


def test_damage_between_the_ends_needs_decoding(root: Path) -> None:
    file = root / _image(0, 0)
    content = bytearray(file.read_bytes())
    content[2:80] = bytes(78)
    file.write_bytes(bytes(content))
    assert _check(root).sound
    assert _told(_check(root, decode=True)) == [("undecodable", "train", _image(0, 0))]


def test_equal_images_are_told_and_are_no_fault(root: Path) -> None:
    shutil.copy(root / _image(0, 0), root / _image(1, 2, "val"))
    report = _check(root, hash_content=True)
    assert _told(report) == [("same content", "test", _image(1, 2, "val"))]
    assert report.findings[0].detail == f"the bytes of {_image(0, 0)}"
    assert report.sound
    assert _check(root).findings == []


def test_a_public_list_decides_what_a_folder_is_labelled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    known = {
        file: (len(text), hashlib.sha256(text).hexdigest())
        for file in FILES.values()
        for text in [(root / file).read_bytes()]
    }
    monkeypatch.setattr(public_lists, "PUBLIC_LISTS", known)
    for wnid, wrong in ((0, 1), (1, 0)):  # most lines of the training list are wrong now
        for number in range(TRAIN[wnid]):
            _edit(root, "train", f"{_image(wnid, number)} {wnid}\n", f"{_image(wnid, number)} {wrong}\n")
    report = _check(root, public=FILES, sizes=IMAGENET_LT.sizes, num_classes=3)
    assert report.faults == {"wrong version": 1, "mislabelled": 150}
    assert report.splits["train"].version == "another" and report.splits["val"].version == "public"
    assert report.splits["train"].expected == 115_846
    (version,) = [finding for finding in report.findings if finding.kind == "wrong version"]
    assert "sha256" in version.detail
    (root / FILES["val"]).write_bytes((root / FILES["test"]).read_bytes())
    told = [f.detail for f in _check(root, public=FILES).findings if f.kind == "wrong version"]
    assert told[1] == "not the public ImageNet_LT_val.txt: it is ImageNet_LT_test.txt"


def test_two_folders_of_one_label(root: Path) -> None:
    text = (root / FILES["test"]).read_text()
    for number in range(3):
        old = root / _image(2, number, "val")
        new = root / "val" / "n99" / f"{number}.JPEG"
        new.parent.mkdir(exist_ok=True)
        old.rename(new)
        text = text.replace(f"{_image(2, number, 'val')} 2", f"val/n99/{number}.JPEG 2")
    (root / FILES["test"]).write_text(text)
    (finding,) = _check(root).findings
    assert finding.kind == "mislabelled"
    assert finding.detail == f"label 2 is that of 2 folders: ['{WNIDS[2]}', 'n99']"


def test_missing_lists_and_root(root: Path) -> None:
    texts: dict[str, ListText | LTBenchError] = {
        "train": LTBenchError("cannot read it"),
        "test": ListText(root / FILES["test"], b"\xff\xfe"),
        "val": ListText(root / FILES["val"], (root / FILES["val"]).read_bytes()),
    }
    report = _check(root.parent / "gone", texts=texts, public=FILES, num_classes=3)
    assert report.faults == {
        "unreadable": 1,
        "missing list": 1,
        "wrong version": 2,
        "missing root": 1,
    }
    assert report.splits["train"].version == "missing"
    assert int(report.splits["val"].present.sum()) == 0


def test_a_stray_label_does_not_fill_the_memory(root: Path) -> None:
    _edit(root, "train", f"{_image(0, 5)} 0\n", f"{_image(0, 5)} 999999999999\n")
    report = _check(root)
    assert [f.kind for f in report.findings] == ["mislabelled"] * 2
    assert report.splits["train"].listed.tolist() == [119, 30, 5]


def test_hints_on_other_layouts(root: Path) -> None:
    flat = root / "val" / "ILSVRC2012_val_0.JPEG"
    (root / _image(0, 0, "val")).rename(flat)
    assert "lie flat in" in _check(root).hints[0]
    inner = root / "ILSVRC" / "Data" / "CLS-LOC"
    inner.mkdir(parents=True)
    (root / "train").rename(inner / "train")
    assert any(f"the images lie in {inner}; give that as the root" in hint for hint in _check(root).hints)
