"""The exceptions that are meant for a person's eyes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Names that a sentence lists beside near ones, and at all.
_FEW, _MANY = 12, 40


class LTBenchError(Exception):
    """Bad input or a broken file, told in one sentence: what was expected, what came, what to do.

    The command line prints the sentence and exits with code 2, without a traceback.
    """


class LostProcesses(LTBenchError):
    """Another process of the run has ended or does not answer."""


class Preempted(BaseException):
    """The process was told to end (SIGTERM); one sentence says what was saved.

    No error, and nobody's to swallow. The command line prints the sentence and exits with
    :data:`PREEMPTED_CODE`.
    """


# What a shell reports of a process that SIGTERM ended: 128 + 15.
PREEMPTED_CODE = 143


def near_names(name: str, known: Iterable[str]) -> str:
    """The part of a sentence that offers what a person may have meant.

    Args:
        name: what was asked for.
        known: what there is.

    Returns:
        ``"did you mean 'a' or 'b'?"`` where some name is near, and the known names where they are few.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    parts = [f"did you mean {' or '.join(map(repr, near))}?"] if near else []
    if not near or len(names) <= _FEW:
        shown = ", ".join(names[:_MANY]) + (", ..." if len(names) > _MANY else "")
        parts.append(f"known: {shown or 'none'}")
    return " ".join(parts)
