"""What a person sees of epochs that take long, in stage 1 and in a classifier that goes through images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lt_bench.config import Experiment
from lt_bench.engine.progress import EpochProgress
from lt_bench.errors import LTBenchError
from lt_bench.run import Settings, run


def told(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def stream(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


def test_a_stream_gets_a_line_only_when_the_last_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lt_bench.engine.progress.time.monotonic", lambda: now[0])
    progress = EpochProgress(console := stream(), "a [v2] classifier")
    progress.begin(20, done=4)
    for done in range(5, 21):
        now[0] += 10
        progress.show(done, whatever=done == 20)
    lines = told(console).splitlines()
    assert lines[0] == "a [v2] classifier: epoch 6/20, 2 min 20 s left"
    assert [line.split()[4] for line in lines] == [
        "6/20,",
        "8/20,",
        "10/20,",
        "12/20,",
        "14/20,",
        *("16/20,", "18/20,", "20/20,"),
    ]


def test_a_terminal_gets_a_bar_that_an_error_does_not_leave(
    short: Callable[..., Experiment], tmp_path: Path
) -> None:
    console = stream(terminal=True)
    console.file.isatty = lambda: True  # type: ignore[method-assign]
    bad = short("oltr", **{"stage1.epochs": 2, "method.classifier.head_lr": 1e30})
    with pytest.raises(LTBenchError, match="OLTR's loss"):
        run([bad], [0], Settings(tmp_path / "work", tmp_path / "records"), console)
    assert "classifier" in told(console) and console._live_stack == []


@pytest.mark.parametrize("stem", ["oltr", "mislas", "crt"])
def test_a_classifier_that_goes_through_images_shows_its_epochs(
    stem: str, short: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpochProgress, "quiet_seconds", 0.0)
    experiment = short(stem, **{"stage1.epochs": 2})
    run([experiment], [0], Settings(tmp_path / "work", tmp_path / "records"), console := stream())
    shown = [line for line in told(console).splitlines() if f"{stem} seed 0: classifier: epoch" in line]
    classifier = experiment.config["method"]["classifier"]
    epochs = classifier.get("epochs") or classifier["recipe"]["epochs"]
    assert f"epoch {epochs}/{epochs}, 0 min 0 s left" in shown[-1]
    assert len(shown) >= epochs
