"""One process at a time on one folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lt_bench.errors import LTBenchError

# By these words of :class:`Held` a sweep knows that a job of its failed by no fault of its own.
HELD = "is held by another process"


class Held(LTBenchError):
    """Another process holds the folder."""


def is_held(folder: Path) -> bool:
    """Whether a process holds ``folder``, this one included."""
    try:
        with open(folder / ".lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def held_since(folder: Path) -> float | None:
    """When a process held ``folder`` last, from then on: seconds since the epoch; None where none did."""
    try:
        return (folder / ".lock").stat().st_mtime
    except FileNotFoundError:
        return None


@contextmanager
def exclusive(folder: Path, what: str, option: str = "--work-dir") -> Iterator[IO[str]]:
    """Hold ``folder`` for this process; the lock ends with the process, however it ends.

    Args:
        folder: made if it is missing.
        what: what is being done there, for the other process's error.
        option: how a person names another folder, for the same error.

    Yields:
        The locked file: a process that inherits it holds the folder, too.

    Raises:
        Held: another process holds it.
        LTBenchError: the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a+")  # noqa: SIM115  held for as long as the lock
    except OSError as error:
        raise LTBenchError(f"cannot write {folder}: {error.strerror}; choose another {option}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise Held(
                f"{what} in {folder} {HELD} ({holder}); "
                f"wait for it to end, or give this call another {option}"
            ) from error
        handle.truncate(0)
        handle.write(f"pid {os.getpid()} on {os.uname().nodename}\n")
        handle.flush()
        yield handle
