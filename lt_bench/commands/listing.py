"""``lt-bench list``: the methods, configs, datasets and tables that there are."""

from __future__ import annotations

import argparse
from typing import Any

from lt_bench.commands.options import Gather

KINDS = ("methods", "configs", "datasets", "tables")


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser("list", help=f"list {', '.join(KINDS)}")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument(
        "--import",
        dest="modules",
        nargs="+",
        action=Gather,
        default=[],
        metavar="MODULE",
        help="your own modules, whose methods are listed too",
    )
    parser.set_defaults(command=_list)


def _list(arguments: argparse.Namespace) -> None:
    from lt_bench.config.folders import list_configs
    from lt_bench.config.plugins import import_plugins
    from lt_bench.leaderboard.spec import list_specs, load_spec
    from lt_bench.registry import DATASETS, METHODS

    if arguments.kind == "methods":
        import_plugins(arguments.modules)
        for name in METHODS.names():
            method = METHODS.get(name)
            print(f"{method.seam:15} {name:20} {_first_line(method)}")
    elif arguments.kind == "configs":
        print("\n".join(list_configs()))
    elif arguments.kind == "datasets":
        for name in DATASETS.names():
            print(f"{name:20} {_first_line(DATASETS.get(name))}")
    else:
        for name in list_specs():
            print(f"{name:20} {load_spec(name).title}")


def _first_line(documented: Any) -> str:
    lines = (documented.__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""
