"""``path label`` lists, the form in which the field publishes its large splits: one image a line.

A list is read once, and everything that is wrong with its lines is kept: building a dataset stops
at the first fault, checking a copy tells them all.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lt_bench.errors import LTBenchError

_INTEGER = re.compile(r"-?[0-9]{1,18}")


class Fault(NamedTuple):
    """One line that cannot stand.

    Attributes:
        kind: ``"malformed"``, ``"outside"`` (of the image root) or ``"duplicated"``.
        line: its number, from 1.
        item: the path, or the text of a malformed line.
        sentence: what a person is told.
    """

    kind: str
    line: int
    item: str
    sentence: str


@dataclass(frozen=True)
class Listing:
    """The good lines of a list, in its order, and the faults of the others.

    Attributes:
        paths: N different paths, with forward slashes, below the image root.
        labels: N integers; whether they are classes is not known here.
        faults: of the lines that were left out; of a path that is listed again, the later line.
    """

    paths: list[str]
    labels: list[int]
    faults: list[Fault]


def read_bytes(file: Path) -> bytes:
    """The content of a list file.

    Raises:
        LTBenchError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise LTBenchError(
            f"cannot read list {file}: {error.strerror or error}; name an existing file"
        ) from error


def parse_list(content: bytes, file: Path) -> Listing:
    """Read the lines of a list; empty ones are passed over.

    Args:
        content: UTF-8 text, with or without a byte order mark.
        file: where it was read from, for the sentences.

    Raises:
        LTBenchError: the content is not UTF-8.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LTBenchError(f"list {file} is not UTF-8 text; it may be another file") from error
    seen: dict[str, int] = {}
    labels: list[int] = []
    faults: list[Fault] = []
    for number, line in enumerate(lines, start=1):
        path, _, label = line.strip().rpartition(" ")
        path = path.strip()
        if ("./" in path or "//" in path) and path[0] != "/" and ".." not in path.split("/"):
            # One file, one name: a second spelling would be a second image, in another split perhaps.
            path = posixpath.normpath(path)
        if not path or not _INTEGER.fullmatch(label):
            if line.strip():
                faults.append(_malformed(number, line, file))
        elif path[0] == "/" or (".." in path and ".." in path.split("/")):
            sentence = (
                f"line {number} of {file} leaves the image root with {path!r}; write paths relative to root"
            )
            faults.append(Fault("outside", number, path, sentence))
        elif path in seen:
            sentence = (
                f"image {path!r} stands twice in {file}, in lines {seen[path]} and {number}; take one off"
            )
            faults.append(Fault("duplicated", number, path, sentence))
        else:
            seen[path] = number
            labels.append(int(label))
    return Listing(list(seen), labels, faults)


def _malformed(number: int, line: str, file: Path) -> Fault:
    sentence = f"line {number} of {file} must be 'path label' with an integer label, got {line[:80]!r}"
    return Fault("malformed", number, line[:80], sentence)
