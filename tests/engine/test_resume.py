"""A run that is stopped anywhere and resumed equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from lt_bench.config import load_experiment
from lt_bench.engine.checkpoints import latest_checkpoint, saved_epochs
from lt_bench.engine.loop import StageOneLoop
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import read_record
from lt_bench.evaluation.report import Scores
from lt_bench.run import Settings, run
from lt_bench.snapshots.recorder import SnapshotRecorder
from lt_bench.snapshots.store import SnapshotStore
from tests.short import SHORT

METHODS = ("plain", "breadcrumb_strong", "breadcrumb_weak")


class Killed(Exception):
    """Stands for the end of the process."""


def final_state(folder: Path) -> dict[str, object]:
    (stage,) = (folder / "work" / "stage1").iterdir()
    path = latest_checkpoint(stage)
    assert path is not None
    return torch.load(path, map_location="cpu", weights_only=True)


def assert_same(one: object, two: object, where: str = "") -> None:
    assert type(one) is type(two), where
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for index, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


def assert_same_run(one: Path, two: Path) -> None:
    a, b = final_state(one), final_state(two)
    for part in ("state_dict", "optimizer", "param_schedulers", "snapshots"):
        assert_same(a[part], b[part], part)
    assert a["meta"]["epoch"] == b["meta"]["epoch"] and a["meta"]["iter"] == b["meta"]["iter"]
    shards = {p.name: load_file(p) for p in one.glob("work/stage1/*/snapshots/*")}
    assert shards
    assert_same(shards, {p.name: load_file(p) for p in two.glob("work/stage1/*/snapshots/*")})


def scores(outcome) -> list:
    return [record.scores for _, record in outcome.records]


def stop_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = StageOneLoop._read, []

    def read(self, loss, epoch):
        calls.append(epoch)
        if epoch == 3:
            raise Killed
        return original(self, loss, epoch)

    monkeypatch.setattr(StageOneLoop, "_read", read)


def stop_before_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SnapshotRecorder.end_epoch

    def end_epoch(self, snapshot, *, last=False):
        if snapshot.epoch == 4:
            raise Killed
        original(self, snapshot, last=last)

    monkeypatch.setattr(SnapshotRecorder, "end_epoch", end_epoch)


def stop_after_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SnapshotStore.write

    def write(self, snapshot):
        path = original(self, snapshot)
        if snapshot.epoch == 5:
            raise Killed
        return path

    monkeypatch.setattr(SnapshotStore, "write", write)


def stop_in_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    import lt_bench.files as files

    original = files.os.replace

    def replace(source, target):
        if str(target).endswith("epoch_3.pth"):
            raise Killed
        original(source, target)

    monkeypatch.setattr(files.os, "replace", replace)


@pytest.mark.parametrize("stop", [stop_in_step, stop_before_followers, stop_after_shard, stop_in_checkpoint])
def test_resumed_equals_uninterrupted(
    short: Callable, launch: Callable, tmp_path: Path, stop: Callable
) -> None:
    experiments = [short(stem) for stem in METHODS]
    whole = launch(*experiments, folder="whole")
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        with pytest.raises(Killed):
            launch(*experiments, folder="cut")
    with pytest.raises(LTBenchError, match="--resume"):
        launch(*experiments, folder="cut")
    resumed = launch(*experiments, folder="cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)


def test_stopped_between_stages_loses_nothing(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lt_bench.run as run_module

    experiments = [short(stem) for stem in METHODS]
    whole = launch(*experiments, folder="whole")

    def broken(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_record", broken)
        with pytest.raises(Killed):
            launch(*experiments, folder="cut")
    resumed = launch(*experiments, folder="cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)


def test_force_starts_over(short: Callable, launch: Callable, tmp_path: Path) -> None:
    experiment = short("plain")
    whole = launch(experiment, folder="whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_in_step(patch)
        with pytest.raises(Killed):
            launch(experiment, folder="cut")
    again = launch(experiment, folder="cut", force=True)
    assert scores(again) == scores(whole)


def test_truncated_checkpoint_is_named(short: Callable, launch: Callable, tmp_path: Path) -> None:
    experiment = short("plain")
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(experiment)
    (stage,) = (tmp_path / "here" / "work" / "stage1").iterdir()
    saved = saved_epochs(stage)
    assert list(saved) == [2, 3]
    content = saved[3].read_bytes()
    saved[3].write_bytes(content[: len(content) // 2])
    with pytest.raises(LTBenchError, match=r"epoch_3\.pth.*delete it.*epoch 2"):
        launch(experiment, resume=True)
    saved[3].unlink()
    assert launch(experiment, resume=True).records


def command(folder: Path, *more: str) -> list[str]:
    options = [f"{key}={value}" for key, value in SHORT.items()]
    return [
        *(sys.executable, "-m", "lt_bench.cli", "run"),
        *(f"digits_lt/{stem}" for stem in METHODS),
        *("--work-dir", str(folder / "work"), "--records", str(folder / "records")),
        *("--cfg-options", *options, *more),
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nothing stops."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    experiments = [load_experiment(f"digits_lt/{stem}", SHORT) for stem in METHODS]
    settings = Settings(folder / "work", folder / "records")
    run(experiments, (0,), settings, Console(quiet=True))
    return folder


def recorded(folder: Path) -> dict[str, Scores]:
    """The scores of every record, whichever call wrote it."""
    found = {p.parent.name: read_record(p).scores for p in folder.glob("records/digits_lt/*/seed_0.json")}
    assert set(found) == set(METHODS)
    return found


# Seconds after the first checkpoint, of which training and scoring take one or two.
RANDOM_DELAYS = [round(random.Random(kill).uniform(0, 2), 3) for kill in range(20)]


@pytest.mark.parametrize(
    "delay", [0.3, *(pytest.param(delay, marks=pytest.mark.slow) for delay in RANDOM_DELAYS)]
)
def test_kill_9_and_resume(
    short: Callable, launch: Callable, tmp_path: Path, uninterrupted: Path, delay: float
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(tmp_path / "cut"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("work/stage1/*/epoch_*.pth")):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read().decode()
        time.sleep(0.02)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (stage,) = (tmp_path / "cut/work/stage1").iterdir()
    done = max(saved_epochs(stage))
    launch(*(short(stem) for stem in METHODS), folder="cut", resume=True)
    assert done >= 1, "at most the interval of one epoch is lost"
    assert_same_run(uninterrupted, tmp_path / "cut")
    assert recorded(tmp_path / "cut") == recorded(uninterrupted)


def test_a_sampler_that_misses_samples_resumes_too(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Square-root sampling shows some images twice and others not at all in an epoch."""
    import methods.plain
    from lt_bench.data import samplers

    monkeypatch.setattr(methods.plain.Plain, "sampler", {"type": "square_root"})
    original = samplers.DATA_SAMPLERS.get("square_root").epoch_indices

    def first_epoch_whole(self, epoch):
        # A first epoch that shows every image, as the capture needs once.
        return torch.arange(len(self.labels)) if epoch == 0 else original(self, epoch)

    monkeypatch.setattr(samplers.DATA_SAMPLERS.get("square_root"), "epoch_indices", first_epoch_whole)
    experiment = short("breadcrumb_strong")
    launch(experiment, folder="whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(experiment, folder="cut")
    launch(experiment, folder="cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_where_training_does_not_show_every_sample_snapshots_have_a_pass_of_their_own(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    import json

    options = {"method.representation.sampler": {"type": "square_root"}}
    assert launch(short("breadcrumb_strong", **options)).records
    (manifest,) = tmp_path.glob("here/work/stage1/*/stage1.json")
    assert json.loads(manifest.read_text())["snapshots"]["capture"] == "epoch_end"
