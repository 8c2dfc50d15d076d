"""``lt-bench score``: score a file of predictions or logits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lt_bench.commands.console import open_console
from lt_bench.commands.options import add_config_options, add_records, parse_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "score", help="score a file of predictions or logits"
    )
    parser.add_argument("file", type=Path, help=".npz (logits or predictions) or .csv")
    parser.add_argument("--dataset", required=True, help="a dataset config, e.g. cifar100_lt")
    add_config_options(parser)
    parser.add_argument("--convention", help="shot groups: paper, strict or inclusive")
    parser.add_argument("--label", help="enter it on the dataset's board under this name, marked external")
    parser.add_argument("--backbone", default="not stated", help="shown where it is another than the board's")
    parser.add_argument("--seed", type=int, help="the seed of the run that made the file")
    parser.add_argument("--selected-on", choices=("val", "test"), help="the split anything was chosen on")
    add_records(parser)
    parser.set_defaults(command=_score)


def _score(arguments: argparse.Namespace) -> None:
    from lt_bench.leaderboard.terminal import result_table
    from lt_bench.score import Entry, score

    entry = Entry(
        label=arguments.label or arguments.file.name,
        backbone=arguments.backbone,
        seed=arguments.seed,
        selected_on=arguments.selected_on,
    )
    record, path = score(
        arguments.file,
        arguments.dataset,
        entry,
        options=parse_options(arguments.cfg_options),
        convention=arguments.convention,
        records=arguments.records if arguments.label else None,
    )
    console = open_console()
    console.print(result_table([record]))
    if path is not None:
        console.print(f"record: {path}", markup=False, soft_wrap=True)
