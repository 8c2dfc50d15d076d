"""Options that several commands have, and how the values of ``--cfg-options`` and ``--grid`` are read."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_bench.default_folders import RECORDS, WORK
from lt_bench.errors import LTBenchError

CONFIG = "a name (digits_lt/crt), several of one folder (digits_lt/ldam+crt), or a path"


class Gather(argparse.Action):
    """Every value that an option was given, in one place of the command line or in several."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        """See the base class."""
        given = getattr(namespace, self.dest)
        # Until it is given, the default itself stands there.
        setattr(namespace, self.dest, [*(() if given is self.default else given), *values])


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options``."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=Gather,
        default=[],
        metavar="KEY=VALUE",
        help="override config keys",
    )


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """``--seeds``."""
    parser.add_argument(
        "--seeds", nargs="+", action=Gather, type=int, default=[0], metavar="SEED", help="a run each (0)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, for :func:`lt_bench.commands.device.choose_device`."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")


def add_work_dir(parser: argparse.ArgumentParser) -> None:
    """``--work-dir``."""
    parser.add_argument("--work-dir", type=Path, default=WORK, help="stage-1 artefacts (%(default)s)")


def add_records(parser: argparse.ArgumentParser) -> None:
    """``--records``."""
    parser.add_argument("--records", type=Path, default=RECORDS, help="run records (%(default)s)")


def add_unfinished(parser: argparse.ArgumentParser) -> None:
    """``--resume`` or ``--restart``: what becomes of a stage 1 that an earlier call left unfinished.

    The last that is given counts: a command that was interrupted goes on by ``--resume`` at its end.
    """
    for what, told in (
        ("resume", "go on with an unfinished stage 1"),
        ("restart", "train an unfinished stage 1 from the start"),
    ):
        parser.add_argument(f"--{what}", dest="unfinished", action="store_const", const=what, help=told)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs, of a key the last; a value is read as Python where it is Python, else as a string.

    Raises:
        LTBenchError: a pair without ``=``.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise LTBenchError(f"--cfg-options expects key=value, got {pair!r}")
        options[key] = _value(value)
    return options


def parse_grid(pairs: Sequence[str]) -> dict[str, list[Any]]:
    """``key=v1,v2`` pairs; values are read as those of ``--cfg-options``, and may be lists (``[1,2],[3]``).

    Raises:
        LTBenchError: a pair without ``=`` or without two values, or a key that is named twice.
    """
    grid: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, values = pair.partition("=")
        listed = _apart(values)
        if not equals or not key or len(listed) < 2 or not all(listed):
            raise LTBenchError(f"--grid expects key=v1,v2,... with two values or more, got {pair!r}")
        if key in grid:
            raise LTBenchError(f"--grid names {key} twice; give all of its values at once")
        grid[key] = [_value(value) for value in listed]
        if len(set(map(repr, grid[key]))) < len(listed):
            raise LTBenchError(f"--grid gives {key} a value twice, {values}; give each once")
    return grid


def _apart(text: str) -> list[str]:
    """The parts of a text between its commas, but for those within brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return words.get(text.lower(), text)
