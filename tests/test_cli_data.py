"""``lt-bench data`` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_bench.cli import main
from lt_bench.data.public_lists import PUBLIC_LISTS
from tests.image_trees import write_imagenet_lt

SPLITS = Path(__file__).parents[2] / "shared" / "data" / "splits"


def refused(capsys: pytest.CaptureFixture, code: int) -> tuple[str, str]:
    """What was printed, and the one sentence on standard error."""
    printed, error = capsys.readouterr()
    assert code == 2
    assert error.startswith("lt-bench: ") and error.count("\n") == 1 and "Traceback" not in error
    return printed, error


def test_check_of_a_sound_and_an_unsound_copy(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_imagenet_lt(tmp_path)
    words = ["data", "check", "imagenet_lt", "--root", str(root), "--own-lists", "--decode", "--hash"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "sound (looked at: every image decoded)" in printed and "120 of 120" in printed
    (root / "val" / "n01440764" / "ILSVRC2012_val_1.JPEG").write_bytes(b"\xff\xd8\xff")
    report = tmp_path / "reports" / "imagenet.json"
    printed, error = refused(capsys, main([*words, "--json", str(report)]))
    assert "is not sound: undecodable (1)" in error or "is not sound: truncated (1)" in error
    assert "ILSVRC2012_val_1.JPEG" in printed and "image-net.org" in printed
    (finding,) = json.loads(report.read_text())["findings"]
    assert (finding["split"], finding["item"]) == ("test", "val/n01440764/ILSVRC2012_val_1.JPEG")


def test_check_refuses_what_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "did you mean 'imagenet_lt'" in refused(capsys, main(["data", "check", "imagenet-lt"]))[1]
    words = ["data", "check", "digits_lt", "--convention", "loose"]
    assert "unknown shot-group convention 'loose'" in refused(capsys, main(words))[1]
    assert main(["data", "check", "digits_lt", "--cfg-options", "imbalance_factor=10"]) == 0


def test_prepare_fetches_verifies_and_repeats(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ["data", "prepare", "places_lt", "--root", str(tmp_path / "places"), "--url", empty.as_uri()]
    assert "cannot fetch file://" in refused(capsys, main(words))[1]
    assert "give one of them" in refused(capsys, main(words[:3]))[1]
    assert (
        "no public lists belong to dataset 'digits_lt'"
        in refused(capsys, main(["data", "prepare", "digits_lt", "--root", str(tmp_path)]))[1]
    )


@pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the public list files")
def test_prepare_and_check_with_the_public_lists(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "places"
    words = ["data", "prepare", "places_lt", "--root", str(root), "--url", SPLITS.resolve().as_uri()]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count(": fetched") == 3 and "places2.csail.mit.edu" in printed
    assert (root / "Places_LT_train.txt").stat().st_size == PUBLIC_LISTS["Places_LT_train.txt"][0]
    assert main(words) == 0
    assert capsys.readouterr().out.count(": was there") == 3
    printed, error = refused(capsys, main(["data", "check", "places_lt", "--root", str(root)]))
    assert "is not sound: missing image (106300)" in error
    rows = [line.split() for line in printed.splitlines()]
    assert ["train", "Places_LT_train.txt", "public", "62500", "62500", "0", "0"] in rows
    assert ["few", "71", "71", "0", "of", "804", "0", "of", "1420", "0", "of", "7100"] in rows
