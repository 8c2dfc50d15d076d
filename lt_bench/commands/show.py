"""``lt-bench show``: print a resolved config."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lt_bench.commands.options import CONFIG, add_config_options, parse_options


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser: argparse.ArgumentParser = commands.add_parser("show", help="print a resolved config")
    parser.add_argument("config", metavar="CONFIG", help=CONFIG)
    add_config_options(parser)
    parser.set_defaults(command=_show)


def _show(arguments: argparse.Namespace) -> None:
    from lt_bench.config import load_experiment

    experiment = load_experiment(arguments.config, parse_options(arguments.cfg_options))
    print(json.dumps({"name": experiment.name, **experiment.config}, indent=2, ensure_ascii=False))
