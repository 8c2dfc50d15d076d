"""The command line: ``lt-bench run``, ``search``, ``sweep``, ``score``, ``table``, ``figure``, ``rehearse``,
``data``, ``list`` and ``show``.

Everything a person can mend ends in one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_bench import __version__
from lt_bench.arguments import check_seeds
from lt_bench.errors import PREEMPTED_CODE, LostProcesses, LTBenchError, Preempted

if TYPE_CHECKING:
    from lt_bench.evaluation.record import RunRecord

RECORDS = Path("leaderboards/records")
BOARDS = Path("leaderboards")
SEARCHES = Path("leaderboards/searches")
WORK = Path("work_dirs")
# Records named one by one at the end of a run.
FEW = 6
# Weak and strong, on one shared stage 1.
REHEARSED = ["rehearsal/breadcrumb_weak", "rehearsal/breadcrumb_strong"]
CONFIG = "a name (digits_lt/crt), several of one folder (digits_lt/ldam+crt), or a path"
KINDS = ("methods", "configs", "datasets", "tables")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``lt-bench``; None takes the process's.

    Returns:
        The exit code: 0, 2 for something a person can mend, 130 for an interruption, 143 where SIGTERM ended
        a run that can be resumed.
    """
    for stream in (sys.stdout, sys.stderr):
        # A locale that is not UTF-8 may have no sign for the tau of a label.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except LostProcesses as error:
        print(f"lt-bench: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        # Threads of the process group may still wait for the others: Python's own end would abort on them.
        os._exit(2)
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
    except RuntimeError as error:
        told = _run_out_of(error)
        if told is None:
            raise
        print(f"lt-bench: {told}", file=sys.stderr)
        return 2
    except Preempted as ended:
        print(f"lt-bench: {ended}", file=sys.stderr)
        return PREEMPTED_CODE
    except KeyboardInterrupt as interruption:
        resumed = hasattr(arguments, "resume")
        again = "--resume goes on from the last checkpoint" if resumed else "give the command again"
        how = str(interruption) or again
        print(f"lt-bench: interrupted; {how}", file=sys.stderr)
        return 130
    return 0


def _run_out_of(error: RuntimeError) -> str | None:
    """The sentence where a machine is too small for what was asked of it; None for any other error."""
    # By its name: most commands do without torch.
    if type(error).__name__ == "OutOfMemoryError":
        return (
            "the GPU's memory is full; lower stage1.batch_size, the classifier's recipe.batch_size or "
            "runtime.eval_batch_size"
        )
    reason = str(error).partition("\n")[0]
    if reason.startswith("DataLoader worker"):
        return (
            f"a process that loads images has died ({reason[:120]}); lower runtime.workers, or give it more "
            "memory (a container: more shared memory, --shm-size)"
        )
    return None


class _Gather(argparse.Action):
    """Every value that an option was given, in one place of the command line or in several."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        given = getattr(namespace, self.dest)
        # Until it is given, the default itself stands there.
        setattr(namespace, self.dest, [*(() if given is self.default else given), *values])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lt-bench", description="A benchmark for long-tailed visual recognition."
    )
    parser.add_argument("--version", action="version", version=f"lt-bench {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", help="train and score configs")
    run.add_argument("configs", nargs="+", metavar="CONFIG", help=CONFIG)
    run.add_argument("--seeds", nargs="+", action=_Gather, type=int, default=[0], metavar="SEED")
    _add_options(run)
    run.add_argument("--work-dir", type=Path, default=WORK, help="stage-1 artefacts (%(default)s)")
    run.add_argument("--records", type=Path, default=RECORDS, help="run records (%(default)s)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
    run.add_argument("--resume", action="store_true", help="go on with an unfinished stage 1")
    run.add_argument(
        "--force",
        action="store_true",
        help="fit and score again what has a record; start an unfinished stage 1 over, keep a finished one",
    )
    run.add_argument("--profile", action="store_true", help="show where the time went; profile a few steps")
    run.add_argument("--launcher", default="none", help="none, pytorch, slurm or mpi (%(default)s)")
    run.add_argument(
        "--timeout", type=float, default=600, help="seconds to wait for other processes (%(default)s)"
    )
    run.set_defaults(command=_run)

    search = commands.add_parser("search", help="choose a method's parameters on the validation split")
    search.add_argument("config", metavar="CONFIG", help=CONFIG)
    search.add_argument(
        "--grid",
        nargs="+",
        action=_Gather,
        required=True,
        metavar="KEY=V1,V2,...",
        help="values of a config's key, e.g. method.representation.gamma=0.5,1,2; several make a grid",
    )
    search.add_argument("--seeds", nargs="+", action=_Gather, type=int, default=[0], metavar="SEED")
    _add_options(search)
    search.add_argument("--work-dir", type=Path, default=WORK, help="stage-1 artefacts (%(default)s)")
    search.add_argument("--out", type=Path, default=SEARCHES, help="folder of search reports (%(default)s)")
    search.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
    search.add_argument("--resume", action="store_true", help="go on with an unfinished stage 1")
    search.add_argument(
        "--force",
        action="store_true",
        help="start an unfinished stage 1 over; replace another search's report",
    )
    search.set_defaults(command=_search)

    sweep = commands.add_parser("sweep", help="run configs x seeds, many at once, here or on SLURM")
    sweep.add_argument("configs", nargs="*", metavar="CONFIG", help=CONFIG)
    sweep.add_argument("--seeds", nargs="+", action=_Gather, type=int, default=[0], metavar="SEED")
    _add_options(sweep)
    sweep.add_argument("--folder", type=Path, required=True, help="the sweep's state: a folder a job")
    sweep.add_argument("--status", action="store_true", help="list the jobs of --folder and run nothing")
    sweep.add_argument("--retry", action="store_true", help="run failed jobs again")
    sweep.add_argument("--jobs", type=int, help="how many at once (as many as fit; all on SLURM)")
    sweep.add_argument("--work-dir", type=Path, default=WORK, help="stage-1 artefacts (%(default)s)")
    sweep.add_argument("--records", type=Path, default=RECORDS, help="run records (%(default)s)")
    sweep.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
    sweep.add_argument("--slurm", action="store_true", help="submit a SLURM array; the next five go with it")
    sweep.add_argument("--partition", help="SLURM's partition")
    sweep.add_argument("--gpus", type=int, help="GPUs of a job")
    sweep.add_argument("--cpus", type=int, help="cores of a job")
    sweep.add_argument("--time", help="time limit of a job, as of sbatch; it goes on after it")
    sweep.add_argument("--mem", help="memory of a job, as of sbatch")
    sweep.set_defaults(command=_sweep)

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
    table.add_argument(
        "--formats", nargs="+", action=_Gather, default=["md", "csv", "tex", "json"], metavar="FORMAT"
    )
    table.add_argument("--check", action="store_true", help="write nothing; fail if a byte would change")
    table.set_defaults(command=_table)

    figure = commands.add_parser("figure", help="draw the paper's figures from snapshots and records")
    figure.add_argument("figure", metavar="FIGURE", help="3, 4, 5b or per-class")
    figure.add_argument(
        "names", nargs="*", metavar="NAME", help="a config; per-class: records or names of configs, or all"
    )
    figure.add_argument("--out", type=Path, required=True, help="a .svg or .png file; the data go beside it")
    figure.add_argument("--seed", type=int, help="the seed of the run (0)")
    _add_options(figure)
    figure.add_argument("--work-dir", type=Path, help=f"stage-1 artefacts ({WORK})")
    figure.add_argument(
        "--epochs", nargs="+", action=_Gather, type=int, metavar="EPOCH", help="3, 4: the epochs to show"
    )
    figure.add_argument("--hard-loss", type=float, help="5b: the loss of a hard example, in nats (5)")
    figure.add_argument("--records", type=Path, help=f"per-class: run records ({RECORDS})")
    figure.add_argument("--window", type=int, help="per-class: classes to smooth over (a tenth of them)")
    figure.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
    figure.set_defaults(command=_figure)

    rehearse = commands.add_parser(
        "rehearse", help="memory, disk and time of the pipeline at a real dataset's size, on generated data"
    )
    _add_rehearsals(rehearse)

    _add_data(commands.add_parser("data", help="check or prepare a copy of a dataset"))

    listing = commands.add_parser("list", help=f"list {', '.join(KINDS)}")
    listing.add_argument("kind", choices=KINDS)
    listing.add_argument("--import", dest="modules", nargs="+", action=_Gather, default=[], metavar="MODULE")
    listing.set_defaults(command=_list)

    show = commands.add_parser("show", help="print a resolved config")
    show.add_argument("config", metavar="CONFIG", help=CONFIG)
    _add_options(show)
    show.set_defaults(command=_show)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="check|prepare")
    check = verbs.add_parser("check", help="tell all that is wrong with a copy")
    check.add_argument("--annotations", type=Path, help="folder of the official train2018.json, val2018.json")
    check.add_argument("--own-lists", action="store_true", help="the lists need not be the public ones")
    check.add_argument("--decode", action="store_true", help="decode every image, not only look at its ends")
    check.add_argument("--hash", action="store_true", help="tell images with equal bytes")
    check.add_argument("--convention", default="strict", help="shot groups: paper, strict or inclusive")
    check.add_argument("--json", type=Path, metavar="FILE", help="write every finding to a file")
    _add_options(check)
    check.set_defaults(command=_data_check)
    prepare = verbs.add_parser("prepare", help="fetch the public list files; images are not fetched")
    prepare.add_argument("--url", help="address that the list files lie below, where not the public one")
    prepare.set_defaults(command=_data_prepare)
    for verb in (check, prepare):
        verb.add_argument("name", metavar="NAME", help="a dataset, e.g. imagenet_lt")
        verb.add_argument("--root", type=Path, help="folder of the images")
        verb.add_argument("--lists", type=Path, help="folder of the list files (the root)")


def _add_rehearsals(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="features|images")
    features = verbs.add_parser("features", help="generated features, to all that follows the network")
    features.add_argument("--dim", type=int, help="dimensions (those of the published backbone)")
    features.add_argument(
        "--steps", type=int, help="train only a linear classifier for that many steps (whole ones)"
    )
    features.set_defaults(command=_rehearse_features)
    images = verbs.add_parser("images", help="generated images, to whole runs of a small network")
    images.add_argument("--image-size", type=int, default=8, help="pixels a side (%(default)s)")
    images.set_defaults(command=_rehearse_images)
    for verb in (features, images):
        verb.add_argument(
            "name",
            metavar="NAME",
            help="imagenet_lt, places_lt, inaturalist2018, or a file with one count a line",
        )
        verb.add_argument(
            "--configs", nargs="+", action=_Gather, default=REHEARSED, metavar="CONFIG", help="(%(default)s)"
        )
        verb.add_argument("--epochs", type=int, help="epochs (as many as fill the longest trail, and 3)")
        verb.add_argument("--keep", type=_keep, default=0, help="snapshots on disk: a number or 'all' (0)")
        verb.add_argument("--dtype", default="float16", help="of the snapshots (%(default)s)")
        verb.add_argument("--schedule", type=int, default=200, help="epochs to extrapolate to (%(default)s)")
        verb.add_argument("--work-dir", type=Path, help="where it writes for a while (the system's folder)")
        verb.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n> (%(default)s)")
        verb.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_Gather,
        default=[],
        metavar="KEY=VALUE",
        help="override config keys",
    )


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
        console = _console()
        settings = Settings(
            arguments.work_dir,
            arguments.records,
            arguments.resume,
            arguments.force,
            arguments.launcher,
            arguments.profile,
        )
        outcome = run(experiments, arguments.seeds, settings, console)
    if outcome.records:
        console.print(result_table([record for _, record in outcome.records]))
        if arguments.profile:
            _show_times([record for _, record in outcome.records], arguments.work_dir, console)
        for path, _ in outcome.records[:FEW]:
            console.print(f"record: {path}", markup=False, soft_wrap=True)
        if len(outcome.records) > FEW:
            more = len(outcome.records) - FEW
            console.print(f"and {more} more under {arguments.records}", markup=False, soft_wrap=True)


def _show_times(records: Sequence[RunRecord], work_dir: Path, console: Any) -> None:
    from lt_bench.leaderboard.terminal import stage1_times, stage2_times

    for identity, table in stage1_times(records).items():
        console.print(table)
        operators = work_dir / "stage1" / identity / "profile" / "operators.txt"
        if operators.exists():
            told = f"operators of a few steps: {operators}, trace.json beside it"
            console.print(told, markup=False, soft_wrap=True)
    console.print(stage2_times(records))


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
            resume=arguments.resume,
            force=arguments.force,
            console=(console := _console()),
        )
    console.print(search_table(report))
    console.print(f"report: {path}", markup=False, soft_wrap=True)


def _sweep(arguments: argparse.Namespace) -> None:
    from lt_bench.sweep.job import jobs_in
    from lt_bench.sweep.watch import status_lines

    if arguments.status:
        if arguments.configs:
            raise LTBenchError("--status lists the jobs of a folder; leave the configs out")
        print("\n".join(status_lines(jobs_in(arguments.folder))))
        return
    launch, at_once = _launcher(arguments)
    from lt_bench.config import load_experiment
    from lt_bench.sweep.plan import Asked, plan
    from lt_bench.sweep.sweep import sweep

    if not arguments.configs:
        raise LTBenchError("a sweep runs configs; name one or more, or give --status to list its jobs")
    check_seeds(arguments.seeds)
    options = parse_options(arguments.cfg_options)
    asked = [Asked(name, load_experiment(name, options)) for name in arguments.configs]
    specs = plan(asked, arguments.seeds, arguments.cfg_options, arguments.work_dir, arguments.records)
    sweep(specs, arguments.folder, launch, at_once, arguments.retry, _console())


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
        console.print(f"record: {path}", markup=False, soft_wrap=True)


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


def _figure(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench.figures.make import Asked, make

    given = ("names", "seed", "work_dir", "epochs", "hard_loss", "records", "window")
    asked = Asked(
        cfg_options=parse_options(arguments.cfg_options), **{name: getattr(arguments, name) for name in given}
    )
    said, paths = make(arguments.figure, asked, arguments.out)
    print("\n".join([*said, *map(str, paths)]))


def _rehearse_features(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from rich.progress import track

    from lt_bench import rehearsal
    from lt_bench.config import load_experiment
    from lt_bench.data.class_counts import class_counts

    console = _console()
    asked = rehearsal.FeatureRehearsal(
        dim=arguments.dim, steps=arguments.steps, **_asked_of_rehearsals(arguments)
    )
    report = rehearsal.rehearse_features(
        class_counts(arguments.name),
        asked,
        [load_experiment(name) for name in arguments.configs],
        lambda epochs: iter(track(epochs, "epochs", console=console, transient=True)),
    )
    _tell_rehearsal(report, arguments.json, console)


def _rehearse_images(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench import rehearsal
    from lt_bench.data.class_counts import class_counts

    console = _console()
    asked = rehearsal.ImageRehearsal(image_size=arguments.image_size, **_asked_of_rehearsals(arguments))
    counts = class_counts(arguments.name)
    report = rehearsal.rehearse_images(counts, arguments.name, asked, arguments.configs, console)
    _tell_rehearsal(report, arguments.json, console)


def _asked_of_rehearsals(arguments: argparse.Namespace) -> dict[str, Any]:
    """What both kinds are asked for; the folder that they write to is there then."""
    if arguments.work_dir is not None:
        arguments.work_dir.mkdir(parents=True, exist_ok=True)
    return {name: getattr(arguments, name) for name in ("epochs", "keep", "dtype", "schedule", "work_dir")}


def _tell_rehearsal(report: Any, file: Path | None, console: Any) -> None:
    from lt_bench import rehearsal
    from lt_bench.files import write_atomically

    for table in rehearsal.tables(report):
        console.print(table)
    if file is not None:
        write_atomically(file, json.dumps(report.as_dict(), indent=2) + "\n")
    if report.failed:
        raise LTBenchError(
            f"{len(report.failed)} of {len(report.checks)} checks do not hold, the first: "
            f"{report.failed[0].statement}; report it with the rehearsal's tables"
        )


def _keep(text: str) -> str | int:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it is a number of epochs from 0, or 'all'; got {text!r}")
    return text if text == "all" else int(text)


def _data_check(arguments: argparse.Namespace) -> None:
    from lt_bench.data_check import check_copy, report_json, report_text
    from lt_bench.evaluation.shots import find_convention
    from lt_bench.files import write_atomically

    find_convention(arguments.convention)
    report = check_copy(
        arguments.name,
        arguments.root,
        lists=arguments.lists,
        annotations=arguments.annotations,
        own_lists=arguments.own_lists,
        decode=arguments.decode,
        hash_content=arguments.hash,
        options=parse_options(arguments.cfg_options),
    )
    print(report_text(report, arguments.convention))
    if arguments.json is not None:
        held = report_json(report, arguments.convention)
        write_atomically(arguments.json, json.dumps(held, indent=1, ensure_ascii=False) + "\n")
    if not report.sound:
        raise LTBenchError(report.summary())


def _data_prepare(arguments: argparse.Namespace) -> None:
    from lt_bench.data.preparing import fetch_lists
    from lt_bench.data_check import public_set

    public = public_set(arguments.name)
    folder = arguments.lists or arguments.root
    if folder is None:
        raise LTBenchError("data prepare puts the lists into --lists or --root; give one of them")
    for path, what in fetch_lists(public, folder, arguments.url).items():
        print(f"{path}: {what}")
    print(f"images: {public.images_from}; below the root stand {public.layout}")


def _list(arguments: argparse.Namespace) -> None:
    from lt_bench import config
    from lt_bench.config_folders import list_configs
    from lt_bench.leaderboard.spec import list_specs, load_spec
    from lt_bench.registry import DATASETS, METHODS

    if arguments.kind == "methods":
        config.import_plugins(arguments.modules)
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


def check_device(device: str) -> None:
    """Refuse what is no name of a device.

    Raises:
        LTBenchError: an unknown device.
    """
    name, colon, index = device.partition(":")
    if device not in ("auto", "cpu") and (name != "cuda" or (colon and not index.isdigit())):
        raise LTBenchError(f"--device is auto, cpu, cuda or cuda:<n>; got {device!r}")


def choose_device(device: str) -> None:
    """Make ``device`` the one that MMEngine finds; before CUDA is first used.

    Raises:
        LTBenchError: an unknown device, or one that is not there.
    """
    check_device(device)
    if device == "auto":
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    index = device.partition(":")[2]
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
    """``key=value`` pairs, of a key the last; a value is read as Python where it is Python, else as a string.

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
    """``key=v1,v2`` pairs; values are read as those of ``--cfg-options``, and may be lists (``[1,2],[3]``).

    Raises:
        LTBenchError: a pair without ``=`` or without two values, or a key that is named twice.
    """
    grid: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, values = pair.partition("=")
        listed = _apart(values)
        if not equals or not key or len(listed) < 2 or not all(listed):
            raise LTBenchError(f"--grid expects key=v1,v2,... with two values or more, got {pair!r}")
        if key in grid:
            raise LTBenchError(f"--grid names {key} twice; give all of its values at once")
        grid[key] = [_value(value) for value in listed]
        if len(set(map(repr, grid[key]))) < len(listed):
            raise LTBenchError(f"--grid gives {key} a value twice, {values}; give each once")
    return grid


def _apart(text: str) -> list[str]:
    """The parts of a text between its commas, but for those within brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return words.get(text.lower(), text)


if __name__ == "__main__":
    sys.exit(main())
