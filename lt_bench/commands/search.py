"""``lt-bench search``: choose a method's parameters on the validation split."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lt_bench.arguments import check_seeds
from lt_bench.commands.console import open_console
from lt_bench.commands.device import choose_device
from lt_bench.commands.options import (
    CONFIG,
    Gather,
    add_config_options,
    add_device,
    add_seeds,
    add_unfinished,
    add_work_dir,
    parse_grid,
    parse_options,
)
from lt_bench.default_folders import SEARCHES


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "search", help="choose a method's parameters on the validation split"
    )
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    parser.add_argument(
        "--grid",
        nargs="+",
        action=Gather,
        required=True,
        metavar="KEY=V1,V2,...",
        help="values of a config's key, e.g. method.representation.gamma=0.5,1,2; several make a grid",
    )
    add_seeds(parser)
    add_config_options(parser)
    add_work_dir(parser)
    parser.add_argument("--out", type=Path, default=SEARCHES, help="folder of search reports (%(default)s)")
    add_device(parser)
    add_unfinished(parser)
    parser.add_argument("--replace", action="store_true", help="write over the report of another search")
    parser.set_defaults(command=_search)


def _search(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    check_seeds(arguments.seeds)
    from lt_bench.engine import preemption
    from lt_bench.leaderboard.terminal import search_table
    from lt_bench.search import search

    with preemption.listening():
        report, path = search(
            arguments.config,
            parse_grid(arguments.grid),
            arguments.seeds,
            options=parse_options(arguments.cfg_options),
            work_dir=arguments.work_dir,
            out=arguments.out,
            unfinished=arguments.unfinished,
            replace=arguments.replace,
            console=(console := open_console()),
        )
    console.print(search_table(report))
    console.print(f"report: {path}", markup=False, soft_wrap=True)
