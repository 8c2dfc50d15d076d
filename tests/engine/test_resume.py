"""A run that is stopped anywhere and resumed equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import json
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
from safetensors.torch import load_file

from lt_bench.engine.checkpoints import latest_checkpoint, saved_epochs
from lt_bench.engine.loop import StageOneLoop
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import read_record
from lt_bench.evaluation.report import Scores
from lt_bench.leaderboard.terminal import stage1_times
from lt_bench.snapshots.hook import SnapshotHook
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


def manifests(folder: Path) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in folder.glob("work/stage1/*/stage1.json")}


def scores(outcome) -> list:
    return [record.scores for _, record in outcome]


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
    resumed = launch(*experiments, folder="cut", unfinished="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)


def test_stopped_between_stages_loses_nothing(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lt_bench.run import call

    experiments = [short(stem) for stem in METHODS]
    whole = launch(*experiments, folder="whole")

    def broken(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(call, "write_record", broken)
        with pytest.raises(Killed):
            launch(*experiments, folder="cut")
    resumed = launch(*experiments, folder="cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)


def test_restart_trains_from_the_start(short: Callable, launch: Callable, tmp_path: Path) -> None:
    experiment = short("plain")
    whole = launch(experiment, folder="whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_in_step(patch)
        with pytest.raises(Killed):
            launch(experiment, folder="cut")
    # Its record is not there yet: to replace it says nothing of the stage 1 that was begun.
    with pytest.raises(LTBenchError, match="--restart"):
        launch(experiment, folder="cut", replace=True)
    again = launch(experiment, folder="cut", unfinished="restart")
    assert scores(again) == scores(whole)
    (manifest,) = tmp_path.glob("cut/work/stage1/*/stage1.json")
    assert json.loads(manifest.read_text())["resumed"] is False


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
        launch(experiment, unfinished="resume")
    saved[3].unlink()
    assert launch(experiment, unfinished="resume")


def command(folder: Path, *more: str) -> list[str]:
    options = [f"{key}={value}" for key, value in SHORT.items()]
    return [
        *(sys.executable, "-m", "lt_bench.cli", "run"),
        *(f"digits_lt/{stem}" for stem in METHODS),
        *("--work-dir", str(folder / "work"), "--records", str(folder / "records")),
        *("--cfg-options", *options, *more),
    ]


def begin(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """A process, once it has a folder for its stage 1."""
    process = subprocess.Popen(
        words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not list(folder.glob("work/stage1/*")):
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.01)
    return process


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code, when the process has ended by itself."""
    with process:
        told = process.stdout.read().decode()
    assert process.returncode in (0, -signal.SIGKILL), told
    return process.returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of the run that nothing stops, and its seconds from the start of stage 1."""
    folder = tmp_path_factory.mktemp("whole")
    process, started = begin(command(folder), folder), time.monotonic()
    assert ended(process) == 0
    return folder, time.monotonic() - started


def recorded(folder: Path) -> dict[str, Scores]:
    """The scores of every record, whichever call wrote it."""
    found = {p.parent.name: read_record(p).scores for p in folder.glob("records/digits_lt/*/seed_0.json")}
    assert set(found) == set(METHODS)
    return found


def goes_on_to_the_same(launch: Callable, short: Callable, folder: Path, whole: Path) -> None:
    (stage,) = (folder / "work/stage1").iterdir()
    seen = [int(path.stem.rpartition("_")[2]) for path in stage.glob("snapshots/*.safetensors")]
    lost = max(seen, default=0) - max(saved_epochs(stage), default=0)
    assert lost <= 1, "an epoch whose snapshot is written is followed by its checkpoint"
    launch(*(short(stem) for stem in METHODS), folder=folder.name, unfinished="resume")
    assert_same_run(whole, folder)
    assert recorded(folder) == recorded(whole)
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"], "no half of a file is left"


KILLS = 20


@pytest.mark.parametrize(
    "kill", [k if k == KILLS // 2 else pytest.param(k, marks=pytest.mark.slow) for k in range(KILLS)]
)
def test_kill_9_and_resume(
    short: Callable, launch: Callable, tmp_path: Path, uninterrupted: tuple[Path, float], kill: int
) -> None:
    """One in each twentieth of the run, at a random moment of it."""
    whole, seconds = uninterrupted
    moment = (kill + random.Random(kill).random()) / KILLS * seconds
    for attempt in range(10):
        cut = tmp_path / f"cut{attempt}"
        process = begin(command(cut), cut)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
        if ended(process) != 0:
            break
        # It was faster than the first one; a kill that nothing felt does not count.
        moment *= 0.8
    else:
        pytest.fail("no process lived long enough to be killed")
    goes_on_to_the_same(launch, short, cut, whole)


# Kills itself at the n-th file that is renamed into place: with half of it written, before, or after.
DYING = """
import os, signal, sys
from lt_bench import cli

last, how, calls, rename = int(sys.argv[1]), sys.argv[2], 0, os.replace

def replace(source, target):
    global calls
    calls += 1
    if calls == last and how == "half":
        os.truncate(source, os.path.getsize(source) // 2)
    if calls != last or how == "after":
        rename(source, target)
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
sys.exit(cli.main(sys.argv[3:]))
"""


# A snapshot and a checkpoint for each of five epochs, the manifest, three records.
@pytest.mark.parametrize(
    ("last", "how"),
    [
        (1, "half"),
        (2, "half"),
        (3, "after"),
        (8, "before"),
        (10, "half"),
        (11, "half"),
        (12, "after"),
        (14, "half"),
    ],
)
@pytest.mark.slow
def test_kill_9_while_a_file_is_written(
    short: Callable,
    launch: Callable,
    tmp_path: Path,
    uninterrupted: tuple[Path, float],
    last: int,
    how: str,
) -> None:
    cut = tmp_path / "cut"
    words = [sys.executable, "-c", DYING, str(last), how, *command(cut)[3:]]
    assert ended(begin(words, cut)) == -signal.SIGKILL
    goes_on_to_the_same(launch, short, cut, uninterrupted[0])


def test_snapshots_of_a_pass_of_their_own_resume_too(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    """Square-root sampling shows some images twice and others not at all in an epoch."""
    experiment = short("square_root_sampling+breadcrumb_strong")
    launch(experiment, folder="whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(experiment, folder="cut")
    launch(experiment, folder="cut", unfinished="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    (manifest,) = tmp_path.glob("cut/work/stage1/*/stage1.json")
    assert json.loads(manifest.read_text())["snapshots"]["capture"] == "epoch_end"


def test_where_training_does_not_show_every_sample_snapshots_have_a_pass_of_their_own(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    options = {"method.representation.sampler": {"type": "square_root"}}
    stems = ("breadcrumb_strong", "breadcrumb_weak", "plain")
    outcome = launch(*(short(stem, **options) for stem in stems))
    (usual,) = (record for _, record in launch(short("plain"), folder="usual"))
    assert [m["snapshots"]["capture"] for m in manifests(tmp_path / "here").values()] == ["epoch_end"]
    strong, weak, kept = (record for _, record in outcome)
    for record in (strong, weak):
        assert record.method["notes"]["snapshots"] == {"capture": "epoch_end", "dtype": "float32"}
    assert "snapshots" not in kept.method["notes"]
    # The pass is no time of a classifier that learns from no snapshot; a capture in passing is part of all.
    assert "snapshots" in usual.stage_parts["stage1"] and "snapshots" not in kept.stage_parts["stage1"]
    passed = strong.stage_parts["stage1"]["snapshots"]
    assert strong.stage_seconds["stage1"] - kept.stage_seconds["stage1"] == pytest.approx(passed, abs=0.01)
    shown = [next(iter(stage1_times(pair).values())).row_count for pair in ((kept, weak), (weak, kept))]
    assert shown[0] == shown[1], "whichever config was named first"


def test_a_pass_that_nobody_wants_is_not_made(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where neither a store nor a follower wants every epoch, trails are as if there had been all."""
    passes: list[int] = []
    original = SnapshotHook._pass_over_images

    def counted(self, runner):
        passes.append(runner.epoch + 1)
        original(self, runner)

    monkeypatch.setattr(SnapshotHook, "_pass_over_images", counted)
    stems = [f"square_root_sampling+{stem}" for stem in ("ncm", "breadcrumb_weak")]
    both = [short(stem) for stem in stems]
    none = [short(stem, **{"snapshots.keep": 0}) for stem in stems]
    whole = launch(*both, folder="whole")
    assert passes == [1, 2, 3, 4, 5]
    passes.clear()
    few = launch(*none, folder="few")
    assert passes == [3, 4, 5] and scores(few) == scores(whole)
    assert_same(final_state(tmp_path / "few")["snapshots"], final_state(tmp_path / "whole")["snapshots"])
    # What was begun goes on.
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(*both, folder="cut")
    assert scores(launch(*none, folder="cut", unfinished="resume")) == scores(whole)


def test_snapshots_do_not_go_on_through_other_transforms(short: Callable, launch: Callable) -> None:
    stem = "class_balanced_sampling+breadcrumb_strong"
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(short(stem))
    with pytest.raises(LTBenchError, match="took its snapshots with .*'transforms'"):
        launch(short(stem, **{"test_transforms.0.mean": [1.0]}), unfinished="resume")
    assert launch(short(stem), unfinished="resume")


@pytest.mark.parametrize(
    ("first", "options"),
    [(METHODS, {}), (("plain",), {"snapshots.keep": 2})],
    ids=["followers and trails, of all epochs", "a trail, of what it holds"],
)
def test_what_joins_at_a_resume_equals_what_was_there(
    short: Callable, launch: Callable, tmp_path: Path, first: tuple[str, ...], options: dict
) -> None:
    """Its own trail and its own epochs are made up for from the stored snapshots."""
    joining = short("back_tracking", **options, **{"method.classifier.length": 3})
    all_of_them = [*(short(stem, **options) for stem in first), joining]
    whole = launch(*all_of_them, folder="whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(short("plain", **options), folder="cut")
    resumed = launch(*all_of_them, folder="cut", unfinished="resume")
    assert scores(resumed) == scores(whole)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_no_snapshot_of_an_epoch_that_was_trained_anew_is_left(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    """Nor where the call that trained it anew keeps none."""
    two = {"runtime.checkpoint_interval": 2}
    with pytest.MonkeyPatch.context() as patch:
        stop_after_shard(patch)
        with pytest.raises(Killed):
            launch(short("plain", **two))
    assert len(list(tmp_path.glob("here/work/stage1/*/snapshots/*"))) == 5
    launch(short("plain", **two, **{"snapshots.keep": 0}), unfinished="resume")
    left = sorted(path.name for path in tmp_path.glob("here/work/stage1/*/snapshots/*"))
    assert left == [f"epoch_{epoch:04d}.safetensors" for epoch in (1, 2, 3, 4)]
