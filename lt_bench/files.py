"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lt_bench.errors import LTBenchError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside ``path``, flushed and renamed into place if the block ends well.

    Args:
        path: the file to write; its folder is made if it is missing.

    Yields:
        The temporary file, empty; it is gone afterwards, however the block ends.

    Raises:
        LTBenchError: the folder cannot be written or the disk is full; ``path`` is as it was before.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = Path(name)
        os.close(descriptor)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        # mkstemp makes private files; a record or a table is meant to be read by others.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        raise LTBenchError(
            f"cannot write {target}: {error.strerror or error}; "
            "free space or choose a folder you may write to"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` beside ``path``, flush it to the disk, then rename it into place.

    Args:
        path: the file to write; its folder is made if it is missing.
        content: bytes, or text written as UTF-8.

    Returns:
        The path.

    Raises:
        LTBenchError: the folder cannot be written or the disk is full; ``path`` is as it was before.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what a killed process left of :func:`replacing`; the caller is the only one to write them.

    Args:
        folder: where it wrote.
        name: of the file that it wrote; by default any.
    """
    for left in folder.glob(f".{name}.*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the work whose result it is for.

    Raises:
        LTBenchError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LTBenchError(
            f"cannot write to {folder}: {error.strerror or error}; choose a folder you may write to"
        ) from error
