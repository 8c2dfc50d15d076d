"""What is wrong inside image files: truncated, not decodable, or the same as another.

The quick look reads both ends of a JPEG and decodes only those that lack a marker, because some
sound images carry other bytes after their end and some ``.JPEG`` files are PNGs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from lt_bench.data.decoding import decode_fault, in_threads, unreadable
from lt_bench.data.image_tree import THREADS
from lt_bench.errors import LTBenchError

_JPEG = (".jpg", ".jpeg")
_START, _END = b"\xff\xd8", b"\xff\xd9"
_HEAD = 4096


def content_fault(file: Path, decode: bool) -> str | None:
    """Why an image cannot be used, or None.

    Args:
        file: the image.
        decode: decode it whatever its ends look like; without it, only a JPEG is looked at.
    """
    try:
        if not decode and (file.suffix.lower() not in _JPEG or _ends_well(file)):
            return None
        return decode_fault(file)
    except LTBenchError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _ends_well(file: Path) -> bool:
    with open(file, "rb") as handle:
        start = handle.read(2)
        handle.seek(-2, 2)
        return start == _START and handle.read(2) == _END


def content_faults(root: Path, paths: Sequence[str], decode: bool) -> list[tuple[str, str]]:
    """The files, larger than one byte, that cannot be used, each with the reason."""
    threads = None if decode else THREADS
    reasons = in_threads(lambda path: content_fault(root / path, decode), paths, threads)
    return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None]


def same_content(root: Path, paths: Sequence[str], sizes: Tensor) -> list[list[str]]:
    """Groups of files with equal bytes.

    Files of equal size are told apart by the hash of their first 4 KiB, and those that agree in it by
    the hash of the whole.

    Args:
        root: the folder that the paths start from.
        paths: N different paths of files.
        sizes: (N,) int64 bytes.

    Raises:
        LTBenchError: a file cannot be read.
    """
    groups = _alike(paths, sizes.tolist())
    for length in (_HEAD, -1):
        left = [path for group in groups for path in group]
        of_size = [place for place, group in enumerate(groups) for _ in group]
        digests = in_threads(partial(_digest, root, length), left, THREADS)
        groups = _alike(left, zip(of_size, digests, strict=True))
    return groups


def _alike(paths: Iterable[str], keys: Iterable[object]) -> list[list[str]]:
    groups: dict[object, list[str]] = defaultdict(list)
    for path, key in zip(paths, keys, strict=True):
        groups[key].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _digest(root: Path, length: int, path: str) -> bytes:
    file = root / path
    try:
        with open(file, "rb") as handle:
            return hashlib.blake2b(handle.read(length), digest_size=16).digest()
    except OSError as error:
        raise LTBenchError(unreadable(file, error)) from error
