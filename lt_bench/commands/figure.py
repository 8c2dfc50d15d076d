"""``lt-bench figure``: draw the paper's figures from snapshots and records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lt_bench.commands.device import choose_device
from lt_bench.commands.options import Gather, add_config_options, add_device, parse_options
from lt_bench.default_folders import RECORDS, WORK


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "figure", help="draw the paper's figures from snapshots and records"
    )
    parser.add_argument("figure", metavar="FIGURE", help="3, 4, 5b or per-class")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a config; per-class: records or names of configs, or all"
    )
    parser.add_argument("--out", type=Path, required=True, help="a .svg or .png file; the data go beside it")
    parser.add_argument("--seed", type=int, help="the seed of the run (0)")
    add_config_options(parser)
    # Without a default: that it was given is told where a figure does not use it.
    parser.add_argument("--work-dir", type=Path, help=f"stage-1 artefacts ({WORK})")
    parser.add_argument(
        "--epochs", nargs="+", action=Gather, type=int, metavar="EPOCH", help="3, 4: the epochs to show"
    )
    parser.add_argument("--hard-loss", type=float, help="5b: the loss of a hard example, in nats (5)")
    parser.add_argument("--records", type=Path, help=f"per-class: run records ({RECORDS})")
    parser.add_argument("--window", type=int, help="per-class: classes to smooth over (a tenth of them)")
    add_device(parser)
    parser.set_defaults(command=_figure)


def _figure(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench.figures.make import Asked, make

    given = ("names", "seed", "work_dir", "epochs", "hard_loss", "records", "window")
    asked = Asked(
        cfg_options=parse_options(arguments.cfg_options), **{name: getattr(arguments, name) for name in given}
    )
    said, paths = make(arguments.figure, asked, arguments.out)
    print("\n".join([*said, *map(str, paths)]))
