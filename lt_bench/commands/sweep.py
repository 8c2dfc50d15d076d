"""``lt-bench sweep``: run configs x seeds, many at once, here or on SLURM."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from lt_bench.arguments import check_seeds
from lt_bench.commands.console import open_console
from lt_bench.commands.device import check_device, choose_device
from lt_bench.commands.options import (
    CONFIG,
    add_config_options,
    add_device,
    add_records,
    add_seeds,
    add_work_dir,
    parse_options,
)
from lt_bench.errors import LTBenchError


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sweep", help="run configs x seeds, many at once, here or on SLURM"
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help=CONFIG)
    add_seeds(parser)
    add_config_options(parser)
    parser.add_argument("--folder", type=Path, required=True, help="the sweep's state: a folder a job")
    parser.add_argument("--retry", action="store_true", help="run failed jobs again")
    parser.add_argument("--jobs", type=int, help="how many at once (as many as fit; all on SLURM)")
    add_work_dir(parser)
    add_records(parser)
    add_device(parser)
    parser.add_argument("--slurm", action="store_true", help="submit a SLURM array; the next five go with it")
    parser.add_argument("--partition", help="SLURM's partition")
    parser.add_argument("--gpus", type=int, help="GPUs of a job")
    parser.add_argument("--cpus", type=int, help="cores of a job")
    parser.add_argument("--time", help="time limit of a job, as of sbatch; it goes on after it")
    parser.add_argument("--mem", help="memory of a job, as of sbatch")
    parser.set_defaults(command=_sweep)


def _sweep(arguments: argparse.Namespace) -> None:
    launch, at_once = _launcher(arguments)
    from lt_bench.config import load_experiment
    from lt_bench.sweep.plan import Asked, plan
    from lt_bench.sweep.sweep import sweep

    check_seeds(arguments.seeds)
    options = parse_options(arguments.cfg_options)
    asked = [Asked(name, load_experiment(name, options)) for name in arguments.configs]
    specs = plan(asked, arguments.seeds, arguments.cfg_options, arguments.work_dir, arguments.records)
    sweep(specs, arguments.folder, launch, at_once, arguments.retry, open_console())


def _launcher(arguments: argparse.Namespace) -> tuple[Any, int | None]:
    """How a sweep's jobs are run, and how many at once; None for as many as can be."""
    from lt_bench.data.decoding import processors
    from lt_bench.sweep import local, machine, room, slurm

    if arguments.jobs is not None and arguments.jobs < 1:
        raise LTBenchError(f"--jobs is a whole number from 1, got {arguments.jobs}")
    asked = {name: getattr(arguments, name) for name in ("partition", "gpus", "cpus", "time", "mem")}
    if arguments.slurm:
        check_device(arguments.device)
        if asked["time"] is None:
            raise LTBenchError("--slurm needs --time, the time limit of a job")
        resources = slurm.Resources(minutes=slurm.minutes_of(asked.pop("time")), **asked)
        slurm.check_cluster()
        files = arguments.folder / "slurm"
        return partial(slurm.run_there, files, resources, arguments.device), arguments.jobs
    for name, value in asked.items():
        if value is not None:
            raise LTBenchError(f"--{name} is for SLURM; give --slurm with it")
    choose_device(arguments.device)
    name = arguments.device.partition(":")[0]
    gpus = [] if name == "cpu" else machine.visible_gpus()
    if arguments.jobs is None:
        return partial(local.run_fitting, gpus, name), None
    places = room.FixedPlaces(arguments.jobs, gpus, processors())
    return partial(local.run_here, places, name), arguments.jobs
