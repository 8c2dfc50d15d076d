"""image_list: files named in lists, and what can be wrong with a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lt_bench.data import images as images_module
from lt_bench.data import public_lists
from lt_bench.data.dataset import LongTailData
from lt_bench.data.image_tree import file_sizes
from lt_bench.data.images import ImageFiles
from lt_bench.data.public_lists import PUBLIC_LISTS, public_name
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"
TRAIN = "a/0.png 0\na/1.png 0\na/2 with space.png 1\n"
TEST = "b/0.png 0\nb/1.png 1\n"


@pytest.fixture
def folder(tmp_path: Path, images: Callable[..., NDArray[np.uint8]]) -> Path:
    """An image root, and the lists train.txt and test.txt beside it."""
    for name in ("a/0", "a/1", "a/2 with space", "b/0", "b/1", "b/2"):
        file = tmp_path / "root" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images(1)[0]).save(file)
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.txt").write_text(TEST)
    return tmp_path


def _build(folder: Path, **own: Any) -> LongTailData:
    cfg = dict(root=folder / "root", train=folder / "train.txt", test=folder / "test.txt")
    data = DATASETS.build(dict(type="image_list", **(cfg | own)))
    assert isinstance(data, LongTailData)
    return data


def test_reads_the_lists(folder: Path) -> None:
    data = _build(folder, name="mine")
    assert isinstance(data.train, ImageFiles)
    assert data.train.paths == ("a/0.png", "a/1.png", "a/2 with space.png")
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.train.root == folder / "root"
    assert data.counts.tolist() == [2, 1]
    assert data.classes == ("0", "1")
    assert data.val is None
    assert data.name == "mine"
    assert data.facts["imbalance_factor"] == 2.0
    assert data.facts["lists"]["train"]["public"] is None
    json.dumps(data.facts)


def test_identity_depends_on_lists_and_not_on_the_place(folder: Path) -> None:
    identity = _build(folder).identity
    (folder / "root").rename(folder / "moved")
    (folder / "train.txt").write_text(TRAIN.replace("\n", "\r\n") + "\n")
    assert _build(folder, root=folder / "moved").identity == identity
    (folder / "test.txt").write_text(TEST + "b/2.png 1\n")
    assert _build(folder, root=folder / "moved").identity != identity


def test_names_and_validation(folder: Path) -> None:
    (folder / "names.txt").write_text("wren\nowl\n")
    (folder / "val.txt").write_text("b/2.png 1\n")
    data = _build(folder, classes=folder / "names.txt", val=folder / "val.txt")
    assert data.classes == ("wren", "owl")
    assert data.val is not None
    assert data.val.labels.tolist() == [1]
    assert data.facts["validation"] == {"rule": "its own list"}
    assert _build(folder, classes=["x", "y"]).classes == ("x", "y")
    with pytest.raises(LTBenchError, match="has 2 classes but 1 class names"):
        _build(folder, classes=["x"], num_classes=2)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("a/0.png 0\na/1.png 1\na/0.png 0\n", "'a/0.png' stands twice in .*, in lines 1 and 3"),
        ("a/0.png 0\na/1.png\n", "line 2 of .*train.txt must be 'path label'.* got 'a/1.png'"),
        ("a/0.png 0\na/1.png one\n", "line 2 of .*integer label"),
        ("a/0.png 0\n 1\n", "line 2 of .*'path label'"),
        ("a/0.png 0\na/1.png 1.0\n", "line 2 of .*integer label"),
        ("a/0.png 0\na/1.png 99999999999999999999\n", "line 2 of .*integer label"),
        ("a/0.png 0\na/1.png 999999999999\n", "highest label of .* is 999999999999"),
        ("a/0.png 0\na/1.png -1\n", "label -1 at position 1 of the train split"),
        ("a/0.png 0\na/1.png 0\n", "no training sample of class 1"),
        ("a/0.png 0\nb/0.png 1\n", "'b/0.png' stands in both the train and the test list"),
        ("a/0.png 0\na/gone.png 1\n", "1 of 2 images listed in .*train.txt are not below .*gone"),
        ("a/0.png 0\na 1\n", "1 of 2 images listed"),
        ("a/0.png 0\n../x.png 1\n", "line 2 of .* leaves the image root"),
        ("a/0.png 0\n/x.png 1\n", "line 2 of .* leaves the image root"),
        ("", "the train split of image_list is empty|highest label"),
    ],
)
def test_refuses_a_list(folder: Path, train: str, told: str) -> None:
    (folder / "train.txt").write_text(train)
    with pytest.raises(LTBenchError, match=told):
        _build(folder)


def test_refuses_places(folder: Path) -> None:
    with pytest.raises(LTBenchError, match="cannot read list .*gone.txt: No such file"):
        _build(folder, val=folder / "gone.txt")
    with pytest.raises(LTBenchError, match="image root .*gone is no folder"):
        _build(folder, root=folder / "gone")
    (folder / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LTBenchError, match="train.txt is not UTF-8 text"):
        _build(folder)
    (folder / "train.txt").write_text(TRAIN.replace("space.png 1", "space.png 2"))
    with pytest.raises(LTBenchError, match="label 2 at position 2 .* expected 0 to 1"):
        _build(folder, num_classes=2)


def test_unchecked_files_are_missed_later(folder: Path) -> None:
    (folder / "root" / "a" / "1.png").unlink()
    data = _build(folder, check_files=False)
    with pytest.raises(LTBenchError, match="cannot read image .*1.png"):
        _ = data.identity


def test_public_lists_are_told_by_their_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LTBenchError, match="train.txt is none of the public ones"):
        _build(folder, require_public=True)
    copy = folder / "Places_LT_train.txt"
    copy.write_text(TRAIN)
    with pytest.raises(LTBenchError, match=f"{len(TRAIN)} bytes where the public file has 2092674"):
        _build(folder, train=copy, require_public=True)
    digests = {name: _build(folder).facts["lists"][name]["sha256"] for name in ("train", "test")}
    known = {
        "mine_train.txt": (len(TRAIN), digests["train"]),
        "mine_test.txt": (len(TEST), digests["test"]),
    }
    monkeypatch.setattr(public_lists, "PUBLIC_LISTS", known)
    data = _build(folder, require_public=True)
    assert data.facts["lists"]["train"]["public"] == "mine_train.txt"
    assert public_lists.difference("mine_test.txt", TEST.upper().encode()).startswith("sha256")
    assert "line ends" in public_lists.difference("mine_test.txt", TEST.encode() + b"\r\n")


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the public list files")
def test_the_real_public_lists_are_known() -> None:
    held = [file for file in SPLITS.iterdir() if file.name in PUBLIC_LISTS]
    assert len(held) == 6
    for file in held:
        assert public_name(file.read_bytes()) == file.name


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the public list files")
def test_places_lt_as_published(tmp_path: Path) -> None:
    data = DATASETS.build(
        dict(
            type="image_list",
            root=tmp_path,
            check_files=False,
            require_public=True,
            **{part: SPLITS / f"Places_LT_{part}.txt" for part in ("train", "val", "test")},
        )
    )
    assert data.facts["sizes"] == {"train": 62_500, "val": 7_300, "test": 36_500}
    assert data.num_classes == 365
    assert (int(data.counts.min()), int(data.counts.max())) == (5, 4980)
    counts = data.counts
    strict = [int((counts > 100).sum()), int(((counts >= 20) & (counts <= 100)).sum())]
    assert strict == [131, 163]
    assert torch.equal(data.test.labels.bincount(), torch.full((365,), 100))


def _damage(folder: Path, name: str) -> None:
    file = folder / "root" / name
    file.write_bytes(file.read_bytes()[:60])


def test_skip_takes_undecodable_training_images_off_and_says_so(folder: Path) -> None:
    whole = _build(folder)
    _damage(folder, "a/1.png")
    data = _build(folder, undecodable="skip")
    assert isinstance(data.train, ImageFiles)
    assert data.train.paths == ("a/0.png", "a/2 with space.png")
    assert data.train.labels.tolist() == [0, 1]
    assert data.counts.tolist() == [1, 1]
    stated = data.facts["undecodable"]
    assert stated["setting"] == "skip" and stated["skipped"] == 1
    assert stated["evaluation"].startswith("no validation or test image is left out")
    assert list(stated["train"]) == ["a/1.png"]
    assert data.facts["sizes"]["train"] == 2
    json.dumps(data.facts)
    assert data.train_identity != whole.train_identity
    # Stopping is what a loader does, and is the default.
    assert len(_build(folder).train) == 3
    kept = _build(folder).facts["undecodable"]
    assert kept == {"setting": "stop", "evaluation": stated["evaluation"]}


def test_skip_changes_nothing_of_a_sound_copy(folder: Path) -> None:
    assert _build(folder, undecodable="skip").identity == _build(folder).identity


def test_skip_never_leaves_out_what_is_scored_or_missing(folder: Path) -> None:
    _damage(folder, "b/1.png")
    with pytest.raises(LTBenchError, match="1 images of the test split cannot be decoded.*b/1.png"):
        _build(folder, undecodable="skip")
    (folder / "root" / "a" / "0.png").unlink()
    with pytest.raises(LTBenchError, match="1 of 3 images listed"):
        _build(folder, undecodable="skip", check_files=False)


def test_skip_may_not_empty_a_class(folder: Path) -> None:
    _damage(folder, "a/2 with space.png")
    with pytest.raises(LTBenchError, match="no training sample of class 1"):
        _build(folder, undecodable="skip", num_classes=2)
    with pytest.raises(LTBenchError, match="undecodable is 'stop' or 'skip', got 'ignore'"):
        _build(folder, undecodable="ignore")


def test_files_are_looked_up_once_for_check_and_identities(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def counted(root: Path, paths: tuple[str, ...]) -> torch.Tensor:
        looked.append(len(paths))
        return file_sizes(root, paths)

    monkeypatch.setattr(images_module, "file_sizes", counted)
    data = _build(folder)
    assert data.train_identity != data.identity
    assert sorted(looked) == [2, 3]
