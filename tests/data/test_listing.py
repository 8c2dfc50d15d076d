"""Lines of lists: all faults are kept, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.data.listing import parse_list, read_bytes
from lt_bench.errors import LTBenchError

FILE = Path("list.txt")


def test_every_fault_is_kept_and_the_rest_is_read() -> None:
    content = (
        b"a/0.png 0\n\nno label\na/0.png 1\n../x.png 1\n/x.png 1\na/..b.png -3\r\n  a/two words.png 1  \n 4\n"
    )
    listing = parse_list(content, FILE)
    assert listing.paths == ["a/0.png", "a/..b.png", "a/two words.png"]
    assert listing.labels == [0, -3, 1]
    kinds = [(fault.kind, fault.line) for fault in listing.faults]
    assert kinds == [("malformed", 3), ("duplicated", 4), ("outside", 5), ("outside", 6), ("malformed", 9)]
    assert "in lines 1 and 4" in listing.faults[1].sentence


def test_refuses_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="list.txt is not UTF-8"):
        parse_list(b"\xff\xfe\x00", FILE)
    with pytest.raises(LTBenchError, match="cannot read list .*gone.txt"):
        read_bytes(tmp_path / "gone.txt")


def test_a_list_of_the_size_of_inaturalist_is_read_whole() -> None:
    lines = (f"train_val2018/Plantae/{i % 8142}/{i:032x}.jpg {i % 8142}\n" for i in range(437_513))
    listing = parse_list("".join(lines).encode(), FILE)
    assert len(listing.paths) == len(listing.labels) == 437_513
    assert not listing.faults


def test_one_file_has_one_name() -> None:
    content = "\ufeffa/0.png 0\n./a/0.png 0\na//1.png 1\na/./2.png 1\nb./3.png 2\n../4.png 2\n".encode()
    listing = parse_list(content, FILE)
    assert listing.paths == ["a/0.png", "a/1.png", "a/2.png", "b./3.png"]
    assert [fault.kind for fault in listing.faults] == ["duplicated", "outside"]
