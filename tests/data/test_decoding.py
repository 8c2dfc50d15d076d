"""Images that cannot be decoded are found before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt_bench.data.decode_crop import DecodeRandomResizedCrop, decode_rgb
from lt_bench.data.decoding import decode_fault, decode_faults, in_threads
from lt_bench.errors import LTBenchError
from tests.image_trees import write_jpeg


def test_the_fast_pass_finds_what_a_full_decode_finds(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "whole.jpg", 0, size=64)
    content = (tmp_path / "whole.jpg").read_bytes()
    # Cut everywhere: the pass at an eighth of the size agrees with decoding in full.
    disagree = []
    for cut in range(0, len(content), 97):
        file = tmp_path / "cut.jpg"
        file.write_bytes(content[:cut])
        try:
            Image.open(file).convert("RGB")
            whole = True
        except (OSError, SyntaxError):
            whole = False
        if (decode_fault(file) is None) != whole:
            disagree.append(cut)
    assert not disagree
    assert decode_fault(tmp_path / "whole.jpg") is None


def test_faults_by_position_and_other_formats(tmp_path: Path) -> None:
    for i in range(200):
        write_jpeg(tmp_path / f"{i}.jpg", i)
    (tmp_path / "3.jpg").write_text("no image")
    half = (tmp_path / "150.jpg").read_bytes()
    (tmp_path / "150.jpg").write_bytes(half[: len(half) // 2])
    Image.new("LA", (3, 1)).save(tmp_path / "7.jpg", format="PNG")
    faults = decode_faults(tmp_path, [f"{i}.jpg" for i in range(200)])
    assert list(faults) == [3, 150]
    assert "truncated" in faults[150].lower() and "cannot identify" in faults[3]


def test_a_file_that_cannot_be_read_is_no_fault_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="cannot read image .*gone.jpg: No such file"):
        decode_fault(tmp_path / "gone.jpg")


def test_threads_keep_the_order() -> None:
    words = [str(i) for i in range(500)]
    assert in_threads(int, words) == list(range(500))
    assert in_threads(int, []) == []


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_are_no_white_image(tmp_path: Path, kind: type) -> None:
    """PIL cuts them at 255 without a word."""
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.full((4, 4), 300, kind)).save(path)
    assert "more than 8 bits" in str(decode_fault(path))
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode_rgb(path)
    with pytest.raises(ValueError, match="more than 8 bits"):
        DecodeRandomResizedCrop(2).decode(path)
