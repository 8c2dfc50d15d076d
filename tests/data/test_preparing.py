"""Fetching lists: whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lt_bench.data import preparing, public_lists
from lt_bench.data.inaturalist2018 import INATURALIST2018
from lt_bench.data.preparing import fetch_lists
from lt_bench.errors import LTBenchError

LISTS = {"iNaturalist18_train.txt": b"a/0.jpg 0\na/1.jpg 1\n" * 50, "iNaturalist18_val.txt": b"b/0.jpg 0\n"}


@pytest.fixture(autouse=True)
def _small_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: (len(text), hashlib.sha256(text).hexdigest()) for name, text in LISTS.items()}
    for module in (public_lists, preparing):
        monkeypatch.setattr(module, "PUBLIC_LISTS", known)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class _Server(BaseHTTPRequestHandler):
    """Serves ``contents``; a name in ``cut`` is promised whole and sent by half."""

    contents: dict[str, bytes] = {}
    cut: set[str] = set()
    asked: list[str] = []

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        content = self.contents.get(name)
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: len(content or b"") // 2 if name in self.cut else None])

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    _Server.contents, _Server.cut, _Server.asked = dict(LISTS), set(), []
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}/lists"
    serving.shutdown()
    thread.join()
    serving.server_close()


def _left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_fetches_once(server: str, tmp_path: Path) -> None:
    first = fetch_lists(INATURALIST2018, tmp_path / "new", server)
    assert {file.name: what for file, what in first.items()} == dict.fromkeys(LISTS, "fetched")
    assert {file.name: file.read_bytes() for file in first} == LISTS
    assert set(fetch_lists(INATURALIST2018, tmp_path / "new", server).values()) == {"was there"}
    assert _Server.asked == list(LISTS)
    assert _left(tmp_path / "new") == sorted(LISTS)


def test_files_and_a_slash_at_the_end(tmp_path: Path) -> None:
    for name, text in LISTS.items():
        (tmp_path / name).write_bytes(text)
    fetch_lists(INATURALIST2018, tmp_path / "new", f"{tmp_path.as_uri()}/")
    assert (tmp_path / "new" / "iNaturalist18_val.txt").read_bytes() == LISTS["iNaturalist18_val.txt"]


def test_a_call_that_was_cut_off_goes_on(server: str, tmp_path: Path) -> None:
    _Server.cut = {"iNaturalist18_val.txt"}
    with pytest.raises(LTBenchError, match="iNaturalist18_val.txt is not the public .* cut off|cannot fetch"):
        fetch_lists(INATURALIST2018, tmp_path, server)
    assert _left(tmp_path) == ["iNaturalist18_train.txt"]
    _Server.cut = set()
    assert list(fetch_lists(INATURALIST2018, tmp_path, server).values()) == ["was there", "fetched"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>sign in</html>", "is not the public iNaturalist18_train.txt: 20 bytes where"),
        (LISTS["iNaturalist18_train.txt"].replace(b"0", b"1"), "sha256"),
        (LISTS["iNaturalist18_train.txt"] + b"x", "it has more than the 1000 bytes"),
        (None, "HTTP 404"),
    ],
)
def test_other_content_is_refused(server: str, tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is None:
        del _Server.contents["iNaturalist18_train.txt"]
    else:
        _Server.contents["iNaturalist18_train.txt"] = content
    with pytest.raises(LTBenchError, match=told):
        fetch_lists(INATURALIST2018, tmp_path, server)
    assert _left(tmp_path) == []


def test_no_connection_and_no_address(tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="cannot fetch http://127.0.0.1:9/.*give --url"):
        fetch_lists(INATURALIST2018, tmp_path, "http://127.0.0.1:9")
    with pytest.raises(LTBenchError, match="cannot fetch file:///.*No such file"):
        fetch_lists(INATURALIST2018, tmp_path, (tmp_path / "gone").as_uri())
    with pytest.raises(LTBenchError, match="an address begins with https://"):
        fetch_lists(INATURALIST2018, tmp_path, "ftp://somewhere")
    assert _left(tmp_path) == []


def test_a_file_of_ones_own_is_not_written_over(server: str, tmp_path: Path) -> None:
    (tmp_path / "iNaturalist18_train.txt").write_text("mine")
    with pytest.raises(LTBenchError, match="is there and is not the public list .*move it away"):
        fetch_lists(INATURALIST2018, tmp_path, server)
    assert (tmp_path / "iNaturalist18_train.txt").read_text() == "mine"
