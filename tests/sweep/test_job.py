"""A job's folder: its marks are its state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lt_bench.engine.locks import exclusive
from lt_bench.errors import LTBenchError
from lt_bench.sweep.job import Spec, jobs_in, open_job
from lt_bench.sweep.watch import status_lines


def test_states(job: Callable) -> None:
    one = job()
    assert one.state() == "waiting"
    with exclusive(one.folder, "a test"):
        assert one.state() == "running"
    one.log.write_text("began\n")
    assert one.state() == "interrupted"
    one.mark_failed("the disk is full; free space", 2)
    assert one.state() == "failed" and one.failure() == "the disk is full; free space"
    one.mark_done({"stage1": 3.0, "other": 1.5})
    assert one.state() == "done" and one.cost() == {"stage1": 3.0, "other": 1.5}
    one.forget("done")
    assert one.state() == "interrupted", "done takes the failure away"


def test_one_that_ended_when_nobody_was_left_to_mark_it(
    job: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed sweep leaves its jobs running."""
    one = job()
    one.log.write_text("began\n")
    monkeypatch.setattr(Spec, "recorded", lambda self: True)
    with exclusive(one.folder, "its process"):
        assert one.state() == "running"
    assert one.state() == "done" and not one.marked("done")


def test_records_say_more_than_other_marks(job: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain run may have written them meanwhile."""
    one = job()
    one.mark_failed("the disk is full", 2)
    monkeypatch.setattr(Spec, "recorded", lambda self: True)
    assert one.state() == "done"
    one.forget("failed")
    assert one.state() == "done"


def test_a_spec_comes_back_and_names_its_folder(job: Callable, spec: Callable) -> None:
    one = job()
    assert open_job(one.folder) == one
    assert one.folder.name.startswith("digits_lt.crt.seed_0.")
    for change in ({"seed": 1}, {"keys": ("1" * 64,)}, {"options": ("stage1.epochs=3",)}):
        assert spec(**change).id != one.spec.id
    assert spec().id == one.spec.id
    assert spec(seed=1).kind == one.spec.kind != spec(options=("a=1",)).kind


def test_status(job: Callable) -> None:
    done, failed, waiting = job(), job(seed=1), job(seed=2)
    done.mark_done({"stage1": 60.0, "other": 30.0})
    failed.mark_failed("the disk is full", 2)
    lines = status_lines([waiting, failed, done])
    assert [line.split()[0] for line in lines[:3]] == ["done", "failed", "waiting"]
    assert lines[0].endswith("digits_lt/crt, 2 min")
    assert "the disk is full" in lines[3] and str(failed.log) in lines[3]
    assert lines[4] == "1 of 3 done, 1 failed, 1 waiting"


def test_folders_that_are_no_jobs(job: Callable, tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="holds no jobs of a sweep"):
        jobs_in(tmp_path)
    one = job()
    assert jobs_in(tmp_path / "sweep") == [one]
    (one.folder / "job.json").write_text('{"seed": 0}')
    with pytest.raises(LTBenchError, match="is not a job's"):
        jobs_in(tmp_path / "sweep")
    (one.folder / "job.json").write_text("{")
    with pytest.raises(LTBenchError, match="does not read"):
        jobs_in(tmp_path / "sweep")
