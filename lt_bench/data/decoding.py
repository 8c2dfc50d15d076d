"""Which images cannot be decoded, found before training by one parallel pass.

A JPEG is decoded at an eighth of its size: all of its data is read and entropy-decoded, so that a
truncated file is found, and most of the arithmetic is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from lt_bench.errors import LTBenchError

# What PIL raises for a file that is no image, or half of one.
DECODE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
_CHUNK = 64

T = TypeVar("T")


def in_words(error: Exception) -> str:
    """A reason for the middle of a sentence."""
    return " ".join(str(error).split())[:160]


def of_the_disk(error: Exception) -> bool:
    """Whether a file cannot be read at all; PIL's own errors carry no error number."""
    return isinstance(error, OSError) and error.errno is not None


def unreadable(path: Path, error: Exception) -> str:
    """The sentence on a file that cannot be read, which says nothing about the image in it."""
    return (
        f"cannot read image {path}: {getattr(error, 'strerror', None) or error}; "
        "restore the file or the disk it is on"
    )


def as_rgb(opened: Image.Image) -> Image.Image:
    """An image as 8-bit RGB.

    Raises:
        ValueError: its pixels have more than 8 bits, which PIL would cut at 255; one of
            :data:`DECODE_ERRORS`, like what PIL raises for a broken file.
    """
    if opened.mode[0] in "IF":
        raise ValueError(f"pixels of mode {opened.mode} have more than 8 bits: scale them to 8 first")
    return opened.convert("RGB")


def decode_fault(path: Path) -> str | None:
    """Why an image cannot be decoded, or None where it can.

    Raises:
        LTBenchError: the file cannot be read at all, which says nothing about the image.
    """
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (max(opened.width // 8, 1), max(opened.height // 8, 1)))
            as_rgb(opened)
    except DECODE_ERRORS as error:
        if of_the_disk(error):
            raise LTBenchError(unreadable(path, error)) from error
        return in_words(error)
    return None


def decode_faults(root: Path, paths: Sequence[str]) -> dict[int, str]:
    """The images that cannot be decoded.

    Args:
        root: the folder that the paths start from.
        paths: N paths.

    Returns:
        Position in ``paths`` and the reason, in order.

    Raises:
        LTBenchError: a file cannot be read.
    """
    reasons = in_threads(lambda path: decode_fault(root / path), paths)
    return {place: reason for place, reason in enumerate(reasons) if reason is not None}


def in_threads(function: Callable[[str], T], paths: Sequence[str], threads: int | None = None) -> list[T]:
    """``function`` of every path, in order; PIL and file reads let go of the GIL.

    Args:
        function: of one path.
        paths: N paths.
        threads: by default one a processor; more where a disk is waited for.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(threads or processors()) as pool:
        done = pool.map(lambda chunk: [function(path) for path in chunk], chunks)
        return [value for values in done for value in values]


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
