"""Checkpoints are read without running what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer

from lt_bench.engine.checkpoints import allow_logs_in_checkpoints, latest_checkpoint
from lt_bench.errors import LTBenchError


class Reaching:
    """A file that asks for an attribute of what a checkpoint may hold, on its way to the interpreter."""

    def __init__(self, owner: object, name: str) -> None:
        self.asked = owner, name

    def __reduce__(self) -> tuple:
        return getattr, self.asked


@pytest.mark.parametrize(
    ("owner", "name"),
    [(HistoryBuffer.update, "__globals__"), (HistoryBuffer, "update"), (HistoryBuffer, "__init__")],
)
def test_no_attribute_but_the_statistics_is_reached(tmp_path: Path, owner: object, name: str) -> None:
    allow_logs_in_checkpoints()
    torch.save({"meta": Reaching(owner, name)}, tmp_path / "epoch_1.pth")
    with pytest.raises(LTBenchError, match="not loaded safely"):
        latest_checkpoint(tmp_path)


def test_logs_read_back(tmp_path: Path) -> None:
    allow_logs_in_checkpoints()
    log = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"log": log}, tmp_path / "epoch_1.pth")
    path = latest_checkpoint(tmp_path)
    assert path is not None
    read = torch.load(path, weights_only=True)["log"]
    assert read.mean() == 1.5 and read.statistics("max") == 2.0 and read.current() == 2.0
