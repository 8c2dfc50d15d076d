"""``lt-bench rehearse``: memory, disk and time of the pipeline at a real size, on generated data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_bench.commands.console import open_console
from lt_bench.commands.device import choose_device
from lt_bench.commands.options import Gather, add_device
from lt_bench.errors import LTBenchError

if TYPE_CHECKING:
    from rich.console import Console

    from lt_bench.rehearsal import Report

# Weak and strong, on one shared stage 1.
REHEARSED = ["rehearsal/breadcrumb_weak", "rehearsal/breadcrumb_strong"]


def add(commands: Any) -> None:
    """Add the command's parsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rehearse", help="memory, disk and time of the pipeline at a real dataset's size, on generated data"
    )
    verbs = parser.add_subparsers(required=True, metavar="features|images")
    features = verbs.add_parser("features", help="generated features, to all that follows the network")
    features.add_argument("--dim", type=int, help="dimensions (those of the published backbone)")
    features.add_argument(
        "--steps", type=int, help="train only a linear classifier for that many steps (whole ones)"
    )
    features.set_defaults(command=_features)
    images = verbs.add_parser("images", help="generated images, to whole runs of a small network")
    images.add_argument("--image-size", type=int, default=8, help="pixels a side (%(default)s)")
    images.set_defaults(command=_images)
    for verb in (features, images):
        verb.add_argument(
            "name",
            metavar="NAME",
            help="imagenet_lt, places_lt, inaturalist2018, or a file with one count a line",
        )
        verb.add_argument(
            "--configs", nargs="+", action=Gather, default=REHEARSED, metavar="CONFIG", help="(%(default)s)"
        )
        verb.add_argument("--epochs", type=int, help="epochs (as many as fill the longest trail, and 3)")
        verb.add_argument("--keep", type=_keep, default=0, help="snapshots on disk: a number or 'all' (0)")
        verb.add_argument("--dtype", default="float16", help="of the snapshots (%(default)s)")
        verb.add_argument("--schedule", type=int, default=200, help="epochs to extrapolate to (%(default)s)")
        verb.add_argument("--work-dir", type=Path, help="where it writes for a while (the system's folder)")
        add_device(verb)
        verb.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")


def _keep(text: str) -> str | int:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"it is a number of epochs from 0, or 'all'; got {text!r}")
    return text if text == "all" else int(text)


def _features(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from rich.progress import track

    from lt_bench import rehearsal
    from lt_bench.config import load_experiment
    from lt_bench.data.class_counts import class_counts

    console = open_console()
    asked = rehearsal.FeatureRehearsal(dim=arguments.dim, steps=arguments.steps, **_asked_of_both(arguments))
    report = rehearsal.rehearse_features(
        class_counts(arguments.name),
        asked,
        [load_experiment(name) for name in arguments.configs],
        lambda epochs: iter(track(epochs, "epochs", console=console, transient=True)),
    )
    _tell(report, arguments.json, console)


def _images(arguments: argparse.Namespace) -> None:
    choose_device(arguments.device)
    from lt_bench import rehearsal
    from lt_bench.data.class_counts import class_counts

    console = open_console()
    asked = rehearsal.ImageRehearsal(image_size=arguments.image_size, **_asked_of_both(arguments))
    counts = class_counts(arguments.name)
    report = rehearsal.rehearse_images(counts, arguments.name, asked, arguments.configs, console)
    _tell(report, arguments.json, console)


def _asked_of_both(arguments: argparse.Namespace) -> dict[str, Any]:
    """What both kinds are asked for; the folder that they write to is there then."""
    if arguments.work_dir is not None:
        arguments.work_dir.mkdir(parents=True, exist_ok=True)
    return {name: getattr(arguments, name) for name in ("epochs", "keep", "dtype", "schedule", "work_dir")}


def _tell(report: Report, file: Path | None, console: Console) -> None:
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
