"""The command line: ``lt-bench run | score | table | list | show``.

Everything a person can mend ends in one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lt_bench import __version__
from lt_bench.errors import LTBenchError

RECORDS = Path("leaderboards/records")
BOARDS = Path("leaderboards")
SEARCHES = Path("leaderboards/searches")
WORK = Path("work_dirs")
# Records named one by one at the end of a run.
FEW = 6
KINDS = ("methods", "configs", "datasets", "tables")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``lt-bench``; None takes the process's.

    Returns:
        The exit code: 0, 2 for something a person can mend, 130 for an interruption.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except LTBenchError as error:
        print(f"lt-bench: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader has seen enough (``lt-bench list configs | head``).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        where = f" {error.filename}" if error.filename else ""
        print(
            f"lt-bench: cannot read or write{where}: {error.strerror or error}; "
            "free space or choose a folder you may write to",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("lt-bench: interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lt-bench", description="A benchmark for long-tailed visual recognition."
    )
    parser.add_argument("--version", action="version", version=f"lt-bench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="train and score configs")
    run.add_argument("configs", nargs="+", metavar="CONFIG", help="a name (digits_lt/crt) or a path")
    run.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    _add_options(run)
    run.add_argument("--work-dir", type=Path, default=WORK, help="stage-1 artefacts (%(default)s)")
    run.add_argument("--records", type=Path, default=RECORDS, help="run records (%(default)s)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
    run.add_argument("--resume", action="store_true", help="go on with an unfinished stage 1")
    run.add_argument("--force", action="store_true", help="fit and score again what has a record; start over")
    run.add_argument("--launcher", default="none", help="none, pytorch, slurm or mpi (%(default)s)")
    run.set_defaults(command=_run)

    search = commands.add_parser("search", help="choose a method's parameters on the validation split")
    search.add_argument("config", metavar="CONFIG", help="a name (digits_lt/focal) or a path")
    search.add_argument(
        "--grid",
        nargs="+",
        required=True,
        metavar="KEY=V1,V2,...",
        help="values of a config's key, e.g. method.representation.gamma=0.5,1,2; several make a grid",
    )
    search.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    _add_options(search)
    search.add_argument("--work-dir", type=Path, default=WORK, help="stage-1 artefacts (%(default)s)")
    search.add_argument("--out", type=Path, default=SEARCHES, help="folder of search reports (%(default)s)")
    search.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
    search.add_argument("--resume", action="store_true", help="go on with an unfinished stage 1")
    search.set_defaults(command=_search)

    score = commands.add_parser("score", help="score a file of predictions or logits")
    score.add_argument("file", type=Path, help=".npz (logits or predictions) or .csv")
    score.add_argument("--dataset", required=True, help="a dataset config, e.g. cifar100_lt")
    _add_options(score)
    score.add_argument("--convention", help="shot groups: paper, strict or inclusive")
    score.add_argument("--label", help="enter it on the dataset's board under this name, marked external")
    score.add_argument("--backbone", default="not stated", help="shown where it is another than the board's")
    score.add_argument("--seed", type=int, help="the seed of the run that made the file")
    score.add_argument("--selected-on", choices=("val", "test"), help="the split anything was chosen on")
    score.add_argument("--records", type=Path, default=RECORDS, help="run records (%(default)s)")
    score.set_defaults(command=_score)

    table = commands.add_parser("table", help="write tables from records")
    table.add_argument("names", nargs="*", metavar="NAME", help="table names or paths; all of them if none")
    table.add_argument("--records", type=Path, default=RECORDS, help="run records (%(default)s)")
    table.add_argument("--out", type=Path, default=BOARDS, help="folder of the tables (%(default)s)")
    table.add_argument("--formats", nargs="+", default=["md", "csv", "tex", "json"], metavar="FORMAT")
    table.add_argument("--check", action="store_true", help="write nothing; fail if a byte would change")
    table.set_defaults(command=_table)

    listing = commands.add_parser("list", help=f"list {', '.join(KINDS)}")
    listing.add_argument("kind", choices=KINDS)
    listing.add_argument("--import", dest="modules", nargs="+", default=[], metavar="MODULE")
    listing.set_defaults(command=_list)

    show = commands.add_parser("show", help="print a resolved config")
    show.add_argument("config", metavar="CONFIG")
    _add_options(show)
    show.set_defaults(command=_show)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override config keys"
    )


def _run(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench.config import load_experiment
    from lt_bench.engine import distributed
    from lt_bench.leaderboard.terminal import result_table
    from lt_bench.run import Settings, run

    for seed in arguments.seeds:
        if seed < 0:
            raise LTBenchError(f"a seed is a whole number from 0, got {seed}")
    options = parse_options(arguments.cfg_options)
    experiments = [load_experiment(name, options) for name in arguments.configs]
    distributed.start(arguments.launcher)
    try:
        console = _console()
        settings = Settings(
            arguments.work_dir,
            arguments.records,
            arguments.resume,
            arguments.force,
            arguments.launcher,
        )
        outcome = run(experiments, arguments.seeds, settings, console)
    finally:
        distributed.stop()
    if outcome.records:
        console.print(result_table([record for _, record in outcome.records]))
        for path, _ in outcome.records[:FEW]:
            console.print(f"record: {path}", soft_wrap=True)
        if len(outcome.records) > FEW:
            more = len(outcome.records) - FEW
            console.print(f"and {more} more under {arguments.records}", soft_wrap=True)


def _search(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench.leaderboard.terminal import search_table
    from lt_bench.search import search

    report, path = search(
        arguments.config,
        parse_grid(arguments.grid),
        arguments.seeds,
        options=parse_options(arguments.cfg_options),
        work_dir=arguments.work_dir,
        out=arguments.out,
        resume=arguments.resume,
        console=(console := _console()),
    )
    console.print(search_table(report))
    console.print(f"report: {path}", soft_wrap=True)


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
    console = _console()
    console.print(result_table([record]))
    if path is not None:
        console.print(f"record: {path}", soft_wrap=True)


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
        if len(specs) == 1 and "md" in arguments.formats:
            print(paths[arguments.formats.index("md")].read_text())
        for path in paths:
            print(path)


def _list(arguments: argparse.Namespace) -> None:
    from lt_bench import config
    from lt_bench.leaderboard.spec import list_specs, load_spec
    from lt_bench.registry import DATASETS, METHODS

    if arguments.kind == "methods":
        config.import_plugins(arguments.modules)
        for name in METHODS.names():
            method = METHODS.get(name)
            print(f"{method.seam:15} {name:20} {_first_line(method)}")
    elif arguments.kind == "configs":
        print("\n".join(config.list_configs()))
    elif arguments.kind == "datasets":
        for name in DATASETS.names():
            print(f"{name:20} {_first_line(DATASETS.get(name))}")
    else:
        for name in list_specs():
            print(f"{name:20} {load_spec(name).title}")


def _first_line(documented: Any) -> str:
    lines = (documented.__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


def _show(arguments: argparse.Namespace) -> None:
    from lt_bench.config import load_experiment

    experiment = load_experiment(arguments.config, parse_options(arguments.cfg_options))
    print(json.dumps({"name": experiment.name, **experiment.config}, indent=2, ensure_ascii=False))


def _console() -> Any:
    from mmengine.dist import get_rank
    from rich.console import Console

    console = Console(quiet=get_rank() != 0, highlight=False)
    if not console.is_terminal:
        # A file or a pipe has no width; tables must not be folded for it.
        console.width = 120
    return console


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
    if name != "cuda" or (":" in device and not index.isdigit()):
        raise LTBenchError(f"--device is auto, cpu, cuda or cuda:<n>; got {device!r}")
    if index:
        # A scheduler may have lent only some of the machine's devices: n counts among those.
        lent = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        if lent and int(index) >= len(lent):
            raise LTBenchError(f"--device {device}: only {len(lent)} CUDA devices are visible; count from 0")
        os.environ["CUDA_VISIBLE_DEVICES"] = lent[int(index)] if lent else index
    import torch

    if not torch.cuda.is_available():
        raise LTBenchError(f"--device {device}: no such CUDA device is here; use --device cpu")


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value is read as Python where it is Python, else as a string.

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
    """``key=v1,v2`` pairs; values are read as those of ``--cfg-options``.

    Raises:
        LTBenchError: a pair without ``=`` or without two values, or a key that is named twice.
    """
    grid: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, values = pair.partition("=")
        listed = values.split(",")
        if not equals or not key or len(listed) < 2 or not all(listed):
            raise LTBenchError(f"--grid expects key=v1,v2,... with two values or more, got {pair!r}")
        if key in grid:
            raise LTBenchError(f"--grid names {key} twice; give all of its values at once")
        grid[key] = [_value(value) for value in listed]
    return grid


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return words.get(text.lower(), text)


if __name__ == "__main__":
    sys.exit(main())
