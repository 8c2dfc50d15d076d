"""What several rooms' tests share: short experiments on the digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from lt_bench.config import Experiment, load_experiment
from lt_bench.evaluation.record import RunRecord
from lt_bench.run import Settings, run
from tests.short import SHORT


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture()
def short() -> Callable[..., Experiment]:
    """A digits config, shortened: ``short("crt", **{"stage1.epochs": 3})``."""

    def make(stem: str, **options: Any) -> Experiment:
        return load_experiment(f"digits_lt/{stem}", {**SHORT, **options})

    return make


@pytest.fixture()
def launch(tmp_path: Path) -> Callable[..., list[tuple[Path, RunRecord]]]:
    """Run experiments in a folder of the test's own."""

    def start(
        *experiments: Experiment,
        seeds: tuple[int, ...] = (0,),
        folder: str = "here",
        **settings: Any,
    ) -> list[tuple[Path, RunRecord]]:
        place = Settings(tmp_path / folder / "work", tmp_path / folder / "records", **settings)
        return run(experiments, seeds, place, Console(quiet=True))

    return start
