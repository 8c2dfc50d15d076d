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
        progress.show(done, always=done == 20)
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
    written = told(console)
    # Every bar hid the cursor, and gave it back when it was taken off.
    assert "classifier" in written and written.count("\x1b[?25h") == written.count("\x1b[?25l") > 0


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
    numbers = [line.split(": epoch ")[1].split(",")[0] for line in shown]
    assert numbers == [f"{n}/{epochs}" for n in range(1, epochs + 1)], "and no pass for class means"
    assert shown[-1].endswith("0 min 0 s left")


def test_epochs_of_the_cache_tell_nothing_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lt_bench.engine.progress.time.monotonic", lambda: now[0])
    progress = EpochProgress(console := stream(), "cRT")
    progress.begin(10)
    for done in range(1, 5):
        progress.skip(done)
    now[0] += 60
    progress.show(5)
    assert told(console) == "cRT: epoch 5/10, 5 min 0 s left\n"


def test_an_epoch_of_the_cache_is_skipped(
    short: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped: list[int] = []
    monkeypatch.setattr(EpochProgress, "skip", lambda progress, done: skipped.append(done))
    both = [short(stem, **{"stage1.epochs": 2}) for stem in ("crt", "lws")]
    run(both, [0], Settings(tmp_path / "work", tmp_path / "records"), Console(quiet=True))
    epochs = both[0].config["method"]["classifier"]["recipe"]["epochs"]
    assert skipped == list(range(1, epochs + 1)), "LWS went through cRT's images"
