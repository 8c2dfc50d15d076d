"""``lt-bench data check`` and ``lt-bench data prepare``: a person's copy of a dataset."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lt_bench.commands.options import add_config_options, parse_options
from lt_bench.errors import LTBenchError


def add(commands: Any) -> None:
    """Add the command's parsers."""
    parser: argparse.ArgumentParser = commands.add_parser("data", help="check or prepare a copy of a dataset")
    verbs = parser.add_subparsers(required=True, metavar="check|prepare")
    check = verbs.add_parser("check", help="tell all that is wrong with a copy")
    check.add_argument("--annotations", type=Path, help="folder of the official train2018.json, val2018.json")
    check.add_argument("--own-lists", action="store_true", help="the lists need not be the public ones")
    check.add_argument("--decode", action="store_true", help="decode every image, not only look at its ends")
    check.add_argument("--hash", action="store_true", help="tell images with equal bytes")
    check.add_argument("--convention", default="strict", help="shot groups: paper, strict or inclusive")
    check.add_argument("--json", type=Path, metavar="FILE", help="write every finding to a file")
    add_config_options(check)
    check.set_defaults(command=_check)
    prepare = verbs.add_parser("prepare", help="fetch the public list files; images are not fetched")
    prepare.add_argument("--url", help="address that the list files lie below, where not the public one")
    prepare.set_defaults(command=_prepare)
    for verb in (check, prepare):
        verb.add_argument("name", metavar="NAME", help="a dataset, e.g. imagenet_lt")
        verb.add_argument("--root", type=Path, help="folder of the images")
        verb.add_argument("--lists", type=Path, help="folder of the list files (the root)")


def _check(arguments: argparse.Namespace) -> None:
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


def _prepare(arguments: argparse.Namespace) -> None:
    from lt_bench.data.preparing import fetch_lists
    from lt_bench.data_check import public_set

    public = public_set(arguments.name)
    folder = arguments.lists or arguments.root
    if folder is None:
        raise LTBenchError("data prepare puts the lists into --lists or --root; give one of them")
    for path, what in fetch_lists(public, folder, arguments.url).items():
        print(f"{path}: {what}")
    print(f"images: {public.images_from}; below the root stand {public.layout}")
