"""A short, finished stage 1 of the digits with all of its snapshots, for every test of the figures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lt_bench.cli import main

# As many epochs as the rarest class has snapshots in its trail, and two.
OPTIONS = ["stage1.epochs=10", "classifier_recipe.epochs=3", "runtime.checkpoint_interval=10"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its --work-dir; the records lie in ``records`` in it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    words = ["run", "digits_lt/breadcrumb_strong", "digits_lt/breadcrumb_weak", "digits_lt/plain"]
    options = ["--cfg-options", *OPTIONS, "snapshots.keep=all"]
    folders = ["--work-dir", str(folder), "--records", str(folder / "records")]
    assert main([*words, *folders, *options]) == 0
    return folder


@pytest.fixture()
def options(trained: Path) -> list[str]:
    """The words that name it."""
    return ["--work-dir", str(trained), "--cfg-options", *OPTIONS]
