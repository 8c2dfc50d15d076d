"""What a finished stage 1 says of what it took and what it learned from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_bench.engine.stage1 import StageOne, seconds_alone, teachers_of
from lt_bench.run.jobs import Settings, jobs_of

CALL = {"version": "0", "environment": {"cpu": "A"}}


@pytest.fixture
def finished(short: Callable, tmp_path: Path) -> Callable[..., StageOne]:
    """Makes the folder of a finished stage 1 from what its manifest says."""
    (job,) = jobs_of([short("plain", **{"stage1.epochs": 2})], [0], Settings(tmp_path, tmp_path))

    def make(identity: str, **said: object) -> StageOne:
        stage = dataclasses.replace(job.stage, identity=identity, folder=tmp_path / identity)
        stage.folder.mkdir()
        (stage.folder / "epoch_2.pth").touch()
        manifest = {"identity": identity, "snapshots": {"capture": "none"}, "trained_by": [CALL], **said}
        (stage.folder / "stage1.json").write_text(json.dumps(manifest))
        return stage

    return make


@pytest.mark.parametrize(
    ("capture", "snapshots", "seconds"),
    [
        ("epoch_end", True, 90.0),
        ("epoch_end", False, 70.0),
        # What the training forward gave cost nothing that could be left out.
        ("training_forward", False, 90.0),
    ],
)
def test_a_stage_takes_what_one_run_of_it_needs(capture: str, snapshots: bool, seconds: float) -> None:
    manifest = {
        "seconds": 100.0,
        "follower_seconds": 10.0,
        "parts": {"forward": 70.0, "snapshots": 20.0, "followers": 10.0},
        "snapshots": {"capture": capture},
    }
    assert seconds_alone(manifest, snapshots=snapshots) == pytest.approx(seconds)


def test_teachers_of_teachers_count_once(finished: Callable[..., StageOne]) -> None:
    first = {"name": "oracle", "seconds": 7.0, "trained_by": [CALL]}
    many = finished("many", seconds=30.0, teachers={"first": first})
    few = finished("few", seconds=20.0, follower_seconds=5.0, teachers={"first": first})
    assert teachers_of({"of many": many, "of few": few}) == {
        "first": first,
        "many": {"name": "of many", "seconds": 30.0, "trained_by": [CALL]},
        "few": {"name": "of few", "seconds": 15.0, "trained_by": [CALL]},
    }
    assert teachers_of({}) == {}
    # As a version wrote it that did not say what a stage learned from.
    assert list(teachers_of({"old": finished("old", seconds=1.0)})) == ["old"]


def test_nothing_is_learned_from_an_unfinished_stage(finished: Callable[..., StageOne]) -> None:
    stage = finished("begun", seconds=1.0)
    (stage.folder / "stage1.json").unlink()
    with pytest.raises(RuntimeError, match="begun is learned from before it is finished"):
        teachers_of({"it": stage})
