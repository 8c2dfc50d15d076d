"""Where a command tells a person what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def open_console() -> Console:
    """A console that speaks on the first process alone, and folds no table where it has no width."""
    from mmengine.dist import get_rank
    from rich.console import Console

    console = Console(quiet=get_rank() != 0, highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width; tables must not be folded for it.
        console.width = 120
    return console
