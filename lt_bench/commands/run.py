"""``lt-bench run``: train and score configs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_bench.arguments import check_seeds
from lt_bench.commands.console import open_console
from lt_bench.commands.device import choose_device
from lt_bench.commands.options import (
    CONFIG,
    add_config_options,
    add_device,
    add_records,
    add_seeds,
    add_unfinished,
    add_work_dir,
    parse_options,
)

if TYPE_CHECKING:
    from rich.console import Console

    from lt_bench.evaluation.record import RunRecord

# Records named one by one at the end of a run.
FEW = 6


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser("run", help="train and score configs")
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help=CONFIG)
    add_seeds(parser)
    add_config_options(parser)
    add_work_dir(parser)
    add_records(parser)
    add_device(parser)
    add_unfinished(parser)
    parser.add_argument("--replace", action="store_true", help="fit and score again what has a record")
    parser.add_argument(
        "--profile", action="store_true", help="show where the time went; profile a few steps"
    )
    parser.add_argument("--launcher", default="none", help="none, pytorch, slurm or mpi (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds to wait for other processes (%(default)s)"
    )
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench.config import load_experiment
    from lt_bench.engine import distributed, preemption
    from lt_bench.leaderboard.terminal import result_table
    from lt_bench.run import Settings, run

    check_seeds(arguments.seeds)
    options = parse_options(arguments.cfg_options)
    experiments = [load_experiment(name, options) for name in arguments.configs]
    with preemption.listening(), distributed.joined(arguments.launcher, arguments.timeout):
        console = open_console()
        settings = Settings(
            arguments.work_dir,
            arguments.records,
            unfinished=arguments.unfinished,
            replace=arguments.replace,
            launcher=arguments.launcher,
            profile=arguments.profile,
        )
        recorded = run(experiments, arguments.seeds, settings, console)
    if not recorded:
        return
    console.print(result_table([record for _, record in recorded]))
    if arguments.profile:
        _show_times([record for _, record in recorded], arguments.work_dir, console)
    for path, _ in recorded[:FEW]:
        console.print(f"record: {path}", markup=False, soft_wrap=True)
    if len(recorded) > FEW:
        more = len(recorded) - FEW
        console.print(f"and {more} more under {arguments.records}", markup=False, soft_wrap=True)


def _show_times(records: Sequence[RunRecord], work_dir: Path, console: Console) -> None:
    from lt_bench.leaderboard.terminal import stage1_times, stage2_times

    for identity, table in stage1_times(records).items():
        console.print(table)
        operators = work_dir / "stage1" / identity / "profile" / "operators.txt"
        if operators.exists():
            told = f"operators of a few steps: {operators}, trace.json beside it"
            console.print(told, markup=False, soft_wrap=True)
    console.print(stage2_times(records))
