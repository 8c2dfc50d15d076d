"""The command line: ``lt-bench run | score | table | list | show``.

Everything a person can mend ends in one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from lt_bench import __version__
from lt_bench.errors import LTBenchError, near_names

RECORDS = "leaderboards/records"
BOARDS = "leaderboards"


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn an LTBenchError into its sentence and exit code 2."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LTBenchError as error:
            click.echo(f"lt-bench: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("lt-bench: interrupted; --resume goes on from the last checkpoint", err=True)
            sys.exit(130)

    return wrapper


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lt-bench")
def main() -> None:
    """A benchmark for long-tailed visual recognition."""


@main.command("run")
@click.argument("configs", nargs=-1, required=True)
@click.option("--seeds", multiple=True, help="One run a seed: --seeds 0 1 2.")
@click.option("--cfg-options", multiple=True, help="Overrides: --cfg-options key=value key=value.")
@click.option("--work-dir", default="work_dirs", show_default=True, type=click.Path(path_type=Path))
@click.option("--records", default=RECORDS, show_default=True, type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:<n>.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished stage 1.")
@click.option("--force", is_flag=True, help="Run again what has a record; start over.")
@click.option("--launcher", default="none", show_default=True, help="none, pytorch, slurm or mpi.")
@_told
def run_command(
    configs: tuple[str, ...],
    seeds: tuple[str, ...],
    cfg_options: tuple[str, ...],
    work_dir: Path,
    records: Path,
    device: str,
    resume: bool,
    force: bool,
    launcher: str,
) -> None:
    """Train and score CONFIGS (names such as digits_lt/crt, or paths)."""
    choose_device(device)
    from lt_bench.config import load_experiment
    from lt_bench.engine import distributed
    from lt_bench.leaderboard.terminal import result_table
    from lt_bench.run import Settings, run

    console = _console(launcher)
    numbers = [_whole(seed) for seed in seeds or ("0",)]
    options = parse_options(cfg_options)
    experiments = [load_experiment(name, options) for name in configs]
    distributed.start(launcher)
    try:
        settings = Settings(work_dir, records, resume, force, launcher)
        outcome = run(experiments, numbers, settings, console)
    finally:
        distributed.stop()
    if outcome.records:
        console.print(result_table([record for _, record in outcome.records]))
        for path, _ in outcome.records:
            console.print(f"record: {path}", soft_wrap=True, highlight=False)


def _console(launcher: str) -> Any:
    from rich.console import Console

    quiet = launcher != "none" and os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0"
    return Console(quiet=quiet, highlight=False)


def _whole(seed: str) -> int:
    if not seed.isdigit():
        raise LTBenchError(f"a seed is a whole number from 0, got {seed!r}")
    return int(seed)


def choose_device(device: str) -> None:
    """Make ``device`` the one that MMEngine finds; before CUDA is first used.

    Raises:
        LTBenchError: an unknown device, or one that is not there.
    """
    if device == "auto":
        return
    name, _, index = device.partition(":")
    if name == "cpu" and not index:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    if name != "cuda" or (index and not index.isdigit()):
        raise LTBenchError(f"--device is auto, cpu, cuda or cuda:<n>; got {device!r}")
    if index:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    import torch

    if not torch.cuda.is_available():
        raise LTBenchError(f"--device {device}: no such CUDA device is here; use --device cpu")


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value is read as Python where it is Python, else as a string.

    Raises:
        LTBenchError: a pair without ``=``.
    """
    import ast

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise LTBenchError(f"--cfg-options expects key=value, got {pair!r}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = {"true": True, "false": False, "none": None}.get(value.lower(), value)
    return options
