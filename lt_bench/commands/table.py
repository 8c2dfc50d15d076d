"""``lt-bench table``: write tables from records, or check that those written are what the records give."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lt_bench.commands.options import Gather, add_records
from lt_bench.default_folders import BOARDS
from lt_bench.errors import LTBenchError


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser("table", help="write tables from records")
    parser.add_argument("names", nargs="*", metavar="NAME", help="table names or paths; all of them if none")
    add_records(parser)
    parser.add_argument("--out", type=Path, default=BOARDS, help="folder of the tables (%(default)s)")
    parser.add_argument(
        "--formats", nargs="+", action=Gather, default=["md", "csv", "tex", "json"], metavar="FORMAT"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a byte would change")
    parser.set_defaults(command=_table)


def _table(arguments: argparse.Namespace) -> None:
    from lt_bench.evaluation.record import read_records
    from lt_bench.leaderboard.spec import list_specs, load_spec
    from lt_bench.leaderboard.writing import check_tables, write_table

    names = arguments.names or list_specs()
    if arguments.check:
        differing = check_tables(arguments.records, arguments.out, names=names, formats=arguments.formats)
        if differing:
            raise LTBenchError(
                f"{len(differing)} table files are not what the records give, the first is "
                f"{differing[0]}; run lt-bench table"
            )
        print(f"{len(names)} tables are, byte for byte, what {arguments.records} gives")
        return
    specs = [load_spec(name) for name in names]
    records = read_records(arguments.records, missing_ok=True)
    for spec in specs:
        paths = write_table(spec, records, arguments.out, arguments.formats)
        if len(specs) == 1:
            print(*(path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"), end="")
        for path in paths:
            print(path)
