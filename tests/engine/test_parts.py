"""Where a stage's time goes: the parts add up, over resumes too, and measuring them changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.device import get_device

from lt_bench.cli import main
from lt_bench.config import Experiment
from lt_bench.engine.checkpoints import saved_epochs
from lt_bench.engine.loop import StageOneLoop
from lt_bench.evaluation.record import RunRecord, read_record
from lt_bench.leaderboard.terminal import stage1_times, stage2_times
from lt_bench.timing import STAGE1_PARTS, STAGE2_PARTS, HostClock, PartTimes
from tests.engine.test_resume import Killed, assert_same_run, scores, stop_before_followers
from tests.short import SHORT


def assert_whole(record: RunRecord) -> None:
    parts, seconds = record.stage_parts, record.stage_seconds
    assert parts is not None and parts["clock"] == PartTimes(torch.device(get_device())).clock.name
    stage1, stage2 = parts["stage1"], parts["stage2"]
    assert set(stage1) <= set(STAGE1_PARTS) and set(stage2) <= set(STAGE2_PARTS)
    assert min(*stage1.values(), *stage2.values()) >= 0
    assert sum(stage1.values()) - stage1.get("followers", 0.0) == pytest.approx(seconds["stage1"], abs=2e-3)
    assert sum(stage2.values()) == pytest.approx(seconds["classifier"] + seconds["evaluation"], abs=1e-6)


def manifest(folder: Path) -> dict:
    (path,) = folder.glob("work/stage1/*/stage1.json")
    return json.loads(path.read_text())


def stopped(launch: Callable, experiments: list[Experiment], folder: Path) -> Path:
    """The folder of a stage 1 that was ended in its fourth epoch."""
    with pytest.MonkeyPatch.context() as patch:
        stop_before_followers(patch)
        with pytest.raises(Killed):
            launch(*experiments)
    (stage,) = (folder / "here/work/stage1").iterdir()
    return stage


def test_the_parts_of_every_record_add_up(short: Callable, launch: Callable, tmp_path: Path) -> None:
    options = {"stage1.epochs": 10, "runtime.val_interval": 2}
    stems = ("plain", "crt", "ncm", "breadcrumb_strong", "breadcrumb_weak", "tau_norm", "oltr")
    records = {r.name.split("/")[1]: r for _, r in launch(*(short(s, **options) for s in stems))}
    for record in records.values():
        assert_whole(record)
    stage1 = records["plain"].stage_parts["stage1"]
    assert all(stage1[name] > 0 for name in STAGE1_PARTS)
    stage2 = {name: record.stage_parts["stage2"] for name, record in records.items()}
    assert stage2["crt"]["data"] > 0 and stage2["crt"]["forward"] > 0 and stage2["crt"]["fitting"] > 0
    assert "data" not in stage2["plain"]
    assert stage2["plain"]["features"] > 0
    assert stage2["oltr"]["features"] == 0, "it has features of its own, which its other parts have"
    assert stage2["breadcrumb_strong"]["following"] == pytest.approx(stage1["followers"], rel=0.05)
    assert stage2["breadcrumb_weak"]["following"] == 0
    assert stage2["tau_norm"]["prediction"] + stage2["tau_norm"]["fitting"] > 0


def test_what_passes_in_a_part_is_counted_there(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves only where the test says."""
    from lt_bench.data.tensor_loader import TensorLoader
    from lt_bench.method import Representation
    from lt_bench.snapshots.buffer import SnapshotBuffer
    from lt_bench.snapshots.store import SnapshotStore
    from lt_bench.snapshots.trail import Trail
    from methods.breadcrumb import BreadcrumbFollower

    now = [0.0]

    def moving(owner: type, name: str, seconds: float) -> None:
        method = getattr(owner, name)

        def moved(self, *args, **kwargs):
            now[0] += seconds
            return method(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, moved)

    monkeypatch.setattr(HostClock, "now", lambda self: now[0])
    moving(TensorLoader, "_batch", 1e-7)
    moving(Representation, "forward", 1e-6)
    moving(Representation, "after_step", 1e-5)
    moving(SnapshotBuffer, "capture", 1e-4)
    moving(SnapshotBuffer, "finish", 1e-3)
    moving(Trail, "push", 2e-3)
    moving(BreadcrumbFollower, "observe", 1e-2)
    moving(Representation, "end_epoch", 3e-3)
    moving(SnapshotStore, "write", 4e-3)
    epochs = 3
    launch(short("breadcrumb_strong", **{"stage1.epochs": epochs}))
    (last,) = tmp_path.glob("here/work/stage1/*/epoch_3.pth")
    steps = torch.load(last, weights_only=True)["meta"]["iter"]
    parts = manifest(tmp_path / "here")["parts"]
    expected = {
        "data": steps * 1e-7,
        "forward": steps * 1e-6,
        "backward": steps * 1e-5,
        "snapshots": steps * 1e-4 + epochs * 1e-3 + (epochs - 1) * 2e-3,
        "followers": epochs * 1e-2,
        "evaluation": epochs * 3e-3,
        "io": epochs * 4e-3,
    }
    assert {name: parts[name] for name in expected} == pytest.approx(expected, abs=6e-7)


def test_a_resumed_run_knows_the_parts_of_the_calls_before(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    experiments = [short("plain"), short("breadcrumb_strong")]
    stage = stopped(launch, experiments, tmp_path)
    saved = torch.load(saved_epochs(stage)[3], weights_only=True)["meta"]
    # As if the first call had taken hours.
    assert 0 < sum(saved["stage_parts"].values()) <= saved["stage_seconds"]
    more = {"data": 100.0, "forward": 1000.0, "backward": 2000.0}
    checkpoint = torch.load(saved_epochs(stage)[3], weights_only=True)
    for name, value in more.items():
        checkpoint["meta"]["stage_parts"][name] += value
        checkpoint["meta"]["stage_seconds"] += value
    torch.save(checkpoint, saved_epochs(stage)[3])
    outcome = launch(*experiments, unfinished="resume")
    for _, record in outcome:
        assert_whole(record)
    parts = manifest(tmp_path / "here")["parts"]
    for name, value in more.items():
        assert value < parts[name] < value + 20
    assert manifest(tmp_path / "here")["seconds"] > 3100


def test_a_classifier_that_joins_at_a_resume_has_all_of_its_time(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.breadcrumb import BreadcrumbFollower

    stopped(launch, [short("plain")], tmp_path)  # epochs 1 to 3 are saved
    observe = BreadcrumbFollower.observe

    def slow(self, *args):
        time.sleep(0.1)
        observe(self, *args)

    monkeypatch.setattr(BreadcrumbFollower, "observe", slow)
    records = [
        record for _, record in launch(short("plain"), short("breadcrumb_strong"), unfinished="resume")
    ]
    assert records[1].stage_parts["stage2"]["following"] >= 0.5, "of five epochs"
    assert sum(manifest(tmp_path / "here")["parts"].values()) >= 0.5
    assert records[1].scores == launch(short("breadcrumb_strong"), folder="alone")[0][1].scores
    for record in records:
        assert_whole(record)


def test_what_a_student_learns_from_beforehand_is_in_its_time(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.lfme import LFME

    learn_from = LFME.learn_from

    def slow(self, *args):
        time.sleep(0.5)
        learn_from(self, *args)

    monkeypatch.setattr(LFME, "learn_from", slow)
    (record,) = (record for _, record in launch(short("lfme")))
    assert record.stage_parts["stage1"]["forward"] >= 0.5 and record.stage_seconds["stage1"] >= 0.5
    assert_whole(record)


def test_a_checkpoint_without_parts_is_gone_on_with_and_said(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    experiments = [short("plain"), short("breadcrumb_strong")]
    stage = stopped(launch, experiments, tmp_path)
    path = saved_epochs(stage)[3]
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["meta"]["stage_parts"]
    torch.save(checkpoint, path)
    before = checkpoint["meta"]["stage_seconds"]
    record = launch(*experiments, unfinished="resume")[0][1]
    parts = record.stage_parts["stage1"]
    followers = sum(checkpoint["meta"]["follower_seconds"].values())
    assert parts["not measured"] == pytest.approx(before - followers, abs=1e-5)
    assert parts["followers"] > followers > 0
    assert sum(parts.values()) - parts["followers"] == pytest.approx(record.stage_seconds["stage1"], abs=2e-3)
    assert "not measured" in stage1_times([record])[record.stage1["identity"]].columns[0]._cells


def test_a_stage_1_of_before_has_no_parts_and_its_record_says_so(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    launch(short("plain"))
    (path,) = tmp_path.glob("here/work/stage1/*/stage1.json")
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("parts", "clock")}
    path.write_text(json.dumps(old))
    (place, record), *_ = launch(short("crt"))
    assert record.stage_parts is not None and record.stage_parts["stage1"] is None
    assert read_record(place) == record
    assert stage1_times([record]) == {}
    assert stage2_times([record]).row_count == 1


def test_profiling_changes_no_bit_and_leaves_its_files(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    experiments = [short("plain"), short("crt"), short("breadcrumb_strong")]
    without = launch(*experiments, folder="without")
    profiled = launch(*experiments, folder="with", profile=True)
    assert scores(without) == scores(profiled)
    assert_same_run(tmp_path / "without", tmp_path / "with")
    (folder,) = tmp_path.glob("with/work/stage1/*/profile")
    assert "convolution_backward" in (folder / "operators.txt").read_text()
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert not list(tmp_path.glob("without/work/stage1/*/profile"))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_profiling_an_epoch_of_few_steps(
    short: Callable, launch: Callable, tmp_path: Path, steps: int
) -> None:
    from lt_bench.engine.data import build_data

    images = len(build_data(short("plain").config["dataset"]).train)
    options = {"stage1.batch_size": -(-images // steps), "stage1.epochs": 2}
    assert launch(short("plain", **options), profile=True)
    recorded = [path.name for path in tmp_path.glob("here/work/stage1/*/profile/*")]
    assert sorted(recorded) == ["operators.txt", "trace.json"]


def test_a_step_reads_no_clock_of_the_device_but_by_marks(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in a step waits for a mark: seconds are read once a checkpoint and at the end."""
    waits: list[bool] = []
    running: list[bool] = []
    original = StageOneLoop.run_epoch

    def run_epoch(self):
        save = self.runner.save_checkpoint

        def saved(*args, **kwargs):
            running.clear()
            save(*args, **kwargs)

        self.runner.save_checkpoint = saved
        running.append(True)
        original(self)
        running.clear()
        self.runner.save_checkpoint = save

    monkeypatch.setattr(StageOneLoop, "run_epoch", run_epoch)
    monkeypatch.setattr(HostClock, "wait", lambda self, mark: waits.append(bool(running)))
    launch(short("breadcrumb_strong"))
    assert waits and not any(waits)


def test_profile_shows_the_parts_at_the_end_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [
        *("run", "digits_lt/crt", "digits_lt/breadcrumb_strong", "--profile", "--device", "cpu"),
        *("--work-dir", str(tmp_path / "work"), "--records", str(tmp_path / "records")),
        *("--cfg-options", *(f"{key}={value}" for key, value in SHORT.items())),
    ]
    for _ in range(2):  # trained now; then from the records alone
        assert main(words) == 0
        printed = capsys.readouterr().out
        rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.startswith("│")}
        assert set(STAGE1_PARTS) <= set(rows)
        assert "100.0%" in rows["all"] and "5 epochs" in rows["all"]
        assert "cRT seed 0" in rows and "Strong Breadcrumb seed 0" in rows
        assert "operators of a few steps" in printed
