"""What a person means by a number."""

from __future__ import annotations

from typing import Any


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number from ``least``. True and False are ints to Python, to a person not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
