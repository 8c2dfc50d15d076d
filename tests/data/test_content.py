"""The quick look into files, and equal contents."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from lt_bench.data.content import content_faults, same_content
from tests.image_trees import write_jpeg


def test_the_quick_look_has_no_false_alarm_and_finds_half_a_file(tmp_path: Path) -> None:
    for i, name in enumerate(("whole", "half", "padded", "headless")):
        write_jpeg(tmp_path / f"{name}.JPEG", i)
    half = (tmp_path / "half.JPEG").read_bytes()
    (tmp_path / "half.JPEG").write_bytes(half[: len(half) // 2])
    with open(tmp_path / "padded.JPEG", "ab") as handle:
        handle.write(b"\0" * 5)
    (tmp_path / "headless.JPEG").write_bytes(b"xx" + (tmp_path / "headless.JPEG").read_bytes()[2:])
    Image.new("RGB", (4, 4)).save(tmp_path / "png.JPEG", format="PNG")
    paths = ["whole.JPEG", "half.JPEG", "padded.JPEG", "headless.JPEG", "png.JPEG"]
    faults = content_faults(tmp_path, paths, decode=False)
    assert [path for path, _ in faults] == ["half.JPEG", "headless.JPEG"]
    assert "truncated" in faults[0][1].lower()


def test_only_decoding_finds_damage_between_the_ends(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "x.jpg", 0, size=64)
    content = bytearray((tmp_path / "x.jpg").read_bytes())
    content[2:60] = b"\0" * 58
    (tmp_path / "x.jpg").write_bytes(bytes(content))
    (tmp_path / "y.png").write_text("no image")
    assert content_faults(tmp_path, ["x.jpg", "y.png"], decode=False) == []
    assert [path for path, _ in content_faults(tmp_path, ["x.jpg", "y.png"], decode=True)] == [
        "x.jpg",
        "y.png",
    ]


def test_a_file_that_vanishes_is_a_fault_here(tmp_path: Path) -> None:
    for decode in (False, True):
        ((path, reason),) = content_faults(tmp_path, ["gone.jpg"], decode)
        assert path == "gone.jpg" and "No such file" in reason


def test_equal_bytes(tmp_path: Path) -> None:
    long = b"x" * 9000
    contents = {
        "a": b"12",
        "b": b"12",
        "c": b"21",
        "d": long + b"1",
        "e": long + b"2",
        "f": long + b"1",
        "g": b"1",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sizes = torch.tensor([len(content) for content in contents.values()])
    assert same_content(tmp_path, list(contents), sizes) == [["a", "b"], ["d", "f"]]
