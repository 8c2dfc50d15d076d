"""``lt-bench status``: how the jobs of a sweep stand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser("status", help="list a sweep's jobs")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what the sweep was given as --folder")
    parser.set_defaults(command=_status)


def _status(arguments: argparse.Namespace) -> None:
    from lt_bench.sweep.job import jobs_in
    from lt_bench.sweep.watch import status_lines

    print("\n".join(status_lines(jobs_in(arguments.folder))))
