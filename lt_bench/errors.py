"""The one exception that is meant for a person's eyes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LTBenchError(Exception):
    """Bad input or a broken file, told in one sentence: what was expected, what came, what to do.

    The command line prints the sentence and exits with code 2, without a traceback.
    """


def near_names(name: str, known: Iterable[str]) -> str:
    """The part of a sentence that offers what a person may have meant.

    Args:
        name: what was asked for.
        known: what there is.

    Returns:
        ``"did you mean 'a' or 'b'? "`` where some name is near, then all known names.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{offer}known: {', '.join(names) or 'none'}"
