"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lt_bench.errors import LTBenchError


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
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        # mkstemp makes private files; a record or a table is meant to be read by others.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise LTBenchError(
            f"cannot write {target}: {error.strerror or error}; "
            "free space or choose a folder you may write to"
        ) from error
    return target
