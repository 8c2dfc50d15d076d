"""Which dataset is checked how, and what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_bench.data_check import PUBLIC_SETS, check_copy, public_set, report_json, report_text
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS
from tests.image_trees import write_imagenet_lt, write_inaturalist


def test_public_sets_are_the_registered_datasets() -> None:
    for name, public in PUBLIC_SETS.items():
        assert public.name == name and name in DATASETS.names()
    with pytest.raises(LTBenchError, match="no public lists belong to dataset 'cifar10_lt'"):
        public_set("cifar10_lt")


def test_groups_and_json(tmp_path: Path) -> None:
    root = write_imagenet_lt(tmp_path)
    (root / "train" / "n01440764" / "n01440764_0.JPEG").unlink()
    report = check_copy("imagenet_lt", root, own_lists=True)
    held = json.loads(json.dumps(report_json(report, "strict")))
    assert held["groups"]["many"]["images"]["train"] == {"listed": 120, "present": 119, "sound": 119}
    assert [held["groups"][group]["classes"] for group in ("many", "medium", "few")] == [1, 1, 1]
    assert held["splits"]["train"]["present"] == 154
    assert held["faults"] == {"missing image": 1} and not held["sound"]
    text = report_text(report, "strict")
    assert "119 of 120" in text and "n01440764_0.JPEG" in text and "image-net.org" in text


def test_lists_are_held_against_the_public_ones(tmp_path: Path) -> None:
    report = check_copy("imagenet_lt", write_imagenet_lt(tmp_path))
    assert report.faults == {"wrong version": 3}
    held = report_json(report, "inclusive")
    assert held["splits"]["train"]["expected"] == 115_846
    assert held["groups"]["many"]["expected_classes"] == 391
    assert "not the public ImageNet_LT_train.txt" in report_text(report, "inclusive")


def test_more_findings_than_are_shown_are_counted(tmp_path: Path) -> None:
    root = write_imagenet_lt(tmp_path)
    for file in (root / "val").rglob("*.JPEG"):
        file.unlink()
    report = check_copy("imagenet_lt", root, own_lists=True)
    assert report.faults == {"missing image": 9}
    assert "and 6 more (--json names all)" in report_text(report, "strict")
    assert len(report_json(report, "strict")["findings"]) == 9


def test_inaturalist_from_its_json(tmp_path: Path) -> None:
    root = write_inaturalist(tmp_path)
    assert check_copy("inaturalist2018", root, annotations=root, own_lists=True).sound
    for file in root.glob("*.txt"):
        file.unlink()
    assert check_copy("inaturalist2018", root, own_lists=True).splits["train"].source == "train2018.json"
    (root / "train2018.json").write_text("[]")
    report = check_copy("inaturalist2018", root, own_lists=True)
    assert [finding.kind for finding in report.findings] == ["missing list"]
    assert "is no annotation file" in report.findings[0].detail
    with pytest.raises(LTBenchError, match="ImageNet-LT has lists only"):
        check_copy("imagenet_lt", root, annotations=root)


def test_image_list_image_by_image(tmp_path: Path) -> None:
    root = write_imagenet_lt(tmp_path)
    files = {part: str(root / f"ImageNet_LT_{part}.txt") for part in ("train", "test")}
    assert check_copy("image_list", root, options=files).sound
    (root / "train" / "n01484850" / "n01484850_4.JPEG").write_bytes(b"")
    assert check_copy("image_list", root, options=files).faults == {"truncated": 1}
    assert check_copy("image_list", root, options={**files, "val": "gone.txt"}).faults["missing list"] == 1
    with pytest.raises(LTBenchError, match="num_classes is a whole number from 1 to 10000000, got 'many'"):
        check_copy("image_list", root, options={**files, "num_classes": "many"})
    with pytest.raises(LTBenchError, match="missing a required argument: 'train'"):
        check_copy("image_list", root)


@pytest.mark.parametrize("wrong", [{"root": 5}, {"train": ""}, {"test": None}, {"val": True}])
def test_what_is_no_path_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    given = {"root": str(tmp_path), "train": "a.txt", "test": "b.txt", **wrong}
    (key,) = wrong
    with pytest.raises(LTBenchError, match=rf"{key} is a path \(./7, not 7\), got {wrong[key]!r}"):
        check_copy("image_list", options=given)
    with pytest.raises(LTBenchError, match="root is a path"):
        check_copy("cifar10_lt", options={"root": 5})


def test_other_sets_are_checked_by_reading_them(tmp_path: Path) -> None:
    report = check_copy("digits_lt")
    assert report.sound and int(report.splits["train"].listed.sum()) == 383
    assert "not sound" not in report_text(report, "strict").lower()
    unsound = check_copy("cifar10_lt", tmp_path)
    assert [finding.kind for finding in unsound.findings] == ["unreadable"]
    assert "no cifar10 in" in report_text(unsound, "strict")
    with pytest.raises(LTBenchError, match="dataset 'digits_lt': .*'root'"):
        check_copy("digits_lt", tmp_path)
    with pytest.raises(LTBenchError, match="has no public lists; leave out --lists"):
        check_copy("digits_lt", lists=tmp_path)
    for wrong in ({"imbalance_factor": "abc"}, {"largest": "x"}):
        with pytest.raises(LTBenchError, match="'digits_lt'"):
            check_copy("digits_lt", options=wrong)
    for classes in (-1, 10**12, True, "9"):
        lists = {"train": "a.txt", "test": "b.txt", "num_classes": classes}
        with pytest.raises(LTBenchError, match="num_classes is a whole number from 1"):
            check_copy("image_list", tmp_path, options=lists)
    with pytest.raises(LTBenchError, match="unknown dataset 'imagenet'"):
        check_copy("imagenet")
    with pytest.raises(LTBenchError, match="takes no --cfg-options; got train"):
        check_copy("places_lt", tmp_path, options={"train": "x"})


def test_images_that_are_trained_on_and_tested_on_are_found(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
    labels = np.arange(12) % 3
    archive = tmp_path / "mine.npz"
    np.savez(
        archive, train_images=images, train_labels=labels, test_images=images[:6], test_labels=labels[:6]
    )
    options = {"path": str(archive)}
    assert not check_copy("array_lt", options=options).findings
    found = check_copy("array_lt", options=options, hash_content=True)
    assert found.sound, "told, and no fault: public sets hold some images twice"
    assert [(f.split, f.item) for f in found.findings] == [("test", f"image {n} of test") for n in range(6)]
    assert found.findings[2].detail == "has the pixels of image 2 of train"
