"""SIGTERM in the middle of an epoch: what was saved goes on to the uninterrupted result, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lt_bench.engine import preemption
from lt_bench.engine.checkpoints import latest_checkpoint, preempted, preempted_name
from lt_bench.engine.loop import StageOneLoop
from lt_bench.errors import LTBenchError, Preempted
from tests.engine.test_resume import METHODS, assert_same_run, scores


def terminate_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = StageOneLoop._told

    def told(self, **how):
        if self.iter == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, **how)

    monkeypatch.setattr(StageOneLoop, "_told", told)


def stop_and_go_on(launch: Callable, folder: Path, experiments: list, *steps: int) -> object:
    for call, step in enumerate(steps):
        with pytest.MonkeyPatch.context() as patch, preemption.listening():
            terminate_before(patch, step)
            with pytest.raises(Preempted, match="SIGTERM after .*--resume"):
                launch(*experiments, folder="cut", unfinished="resume" if call else None)
        (stage,) = {path.parent for path in folder.glob("cut/work/stage1/*/preempted_*.pth")}
        assert len(preempted(stage)) == 1, "of what was saved before, nothing is needed any more"
    return launch(*experiments, folder="cut", unfinished="resume")


# 574 images in batches of 32: 18 steps an epoch.
@pytest.mark.parametrize("steps", [(1,), (7, 12, 40), (18,), (89,)], ids=str)
def test_goes_on_in_the_middle_of_an_epoch(
    short: Callable, launch: Callable, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    experiments = [short(stem, **{"runtime.log_interval": 4}) for stem in METHODS]
    whole = launch(*experiments, folder="whole")
    resumed = stop_and_go_on(launch, tmp_path, experiments, *steps)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)
    (stage,) = (tmp_path / "cut/work/stage1").iterdir()
    assert not preempted(stage), "a finished stage 1 needs it no more"


def test_a_signal_after_the_last_step_leaves_a_finished_stage(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    experiments = [short(stem) for stem in METHODS]
    whole = launch(*experiments, folder="whole")
    with pytest.MonkeyPatch.context() as patch, preemption.listening():
        terminate_before(patch, 90)
        with pytest.raises(Preempted, match="stage 1 is complete, give the same command again"):
            launch(*experiments, folder="cut")
    again = launch(*experiments, folder="cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(again) == scores(whole)


@pytest.mark.parametrize("stem", ["paco", "mixup", "bbn", "ldam", "lade"])
def test_methods_with_draws_queues_and_schedules_go_on_too(
    short: Callable, launch: Callable, tmp_path: Path, stem: str
) -> None:
    experiment = short(stem, **{"stage1.epochs": 2, "runtime.checkpoint_interval": 2})
    whole = launch(experiment, folder="whole")
    resumed = stop_and_go_on(launch, tmp_path, [experiment], 5, 23)
    assert scores(resumed) == scores(whole)
    ends = [torch.load(next(tmp_path.glob(f"{f}/work/stage1/*/epoch_2.pth"))) for f in ("whole", "cut")]
    for key, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][key]), key


def test_outside_of_training_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="--resume"), preemption.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before and not preemption.asked()


def test_a_second_signal_ends_training_at_once() -> None:
    with pytest.raises(Preempted), preemption.listening(), preemption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.asked()
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the second signal was not heard")


def test_the_newest_counts_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    for name in ("epoch_2.pth", preempted_name(2, 0), preempted_name(2, 11), preempted_name(1, 30)):
        torch.save({"a": 1}, tmp_path / name)
    assert latest_checkpoint(tmp_path) == tmp_path / "preempted_2_11.pth"
    torch.save({"a": 1}, tmp_path / "epoch_3.pth")
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch_3.pth"
    (tmp_path / "epoch_3.pth").write_bytes(b"PK")
    with pytest.raises(LTBenchError, match=r"epoch_3\.pth is truncated.*epoch 2, step 11"):
        latest_checkpoint(tmp_path)


def test_nothing_of_an_epoch_in_flight_is_kept_at_its_end(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    launch(short("plain"))
    (path,) = tmp_path.glob("here/work/stage1/*/epoch_5.pth")
    checkpoint = torch.load(path, weights_only=True)
    assert "in_flight" not in checkpoint["snapshots"] and "in_progress" not in checkpoint["meta"]
