"""`lt-bench sweep` from its words to its records, with real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_bench.cli import main
from lt_bench.engine.locks import exclusive
from lt_bench.evaluation.record import read_records
from lt_bench.sweep.job import jobs_in


@pytest.fixture()
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(*given: str, options: list[str]) -> list[str]:
    return ["sweep", *given, "--folder", "sweep", "--device", "cpu", "--cfg-options", *options]


def results(folder: Path) -> dict[tuple[str, int | None], object]:
    return {
        (record.name, record.seed): (record.key, record.scores, record.selected, record.stage1["identity"])
        for record in read_records(folder)
    }


def test_two_at_a_time_give_the_records_of_a_plain_run(
    here: Path, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    configs = ["digits_lt/crt", "digits_lt/ldam", "digits_lt/breadcrumb_strong"]
    call = words(*configs, "--jobs", "2", options=options)
    assert main(call) == 0
    told = capsys.readouterr().out
    first, second = jobs_in(here / "sweep")
    running = [f"{job.spec.title}: running" for job in (first, second)]
    begun = told.splitlines()
    assert set(begun[1:3]) == set(running), "both ran before either had ended"
    assert "2 of 2 done; nothing left" in told and "time left: unknown" in told
    assert len(list((here / "work_dirs" / "stage1").iterdir())) == 2
    cost = first.cost()
    (identity,) = first.spec.stages
    manifest = json.loads((here / "work_dirs" / "stage1" / identity / "stage1.json").read_text())
    assert cost is not None and cost["stage1"] == manifest["seconds"] and cost["other"] > 0

    plain = ["--work-dir", "plain", "--records", "plain/records", "--cfg-options", *options]
    assert main(["run", *configs, *plain]) == 0
    capsys.readouterr()
    swept = results(here / "leaderboards" / "records")
    assert len(swept) == 3 and swept == results(here / "plain" / "records")

    log = first.log.read_text()
    assert main(call) == 0
    assert "2 of 2 done" in capsys.readouterr().out and first.log.read_text() == log
    assert main(["status", "sweep"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed[:2]] == ["done", "done"] and listed[-1] == "2 of 2 done"


def test_stopped_half_way_goes_on(
    here: Path, options: list[str], launch: Callable, short: Callable, capsys: pytest.CaptureFixture
) -> None:
    long = {"stage1.epochs": 15, "stage1.numerics.threads": 1}
    names = ("digits_lt/ncm", "digits_lt/breadcrumb_strong", "digits_lt/breadcrumb_var")
    call = words(*names, options=[*options, "stage1.epochs=15"])
    process = subprocess.Popen(
        [sys.executable, "-m", "lt_bench.cli", *call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not list(here.glob("work_dirs/stage1/*/epoch_*.pth")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.startswith("lt-bench: interrupted; the same call goes on") and error.count("\n") == 1
    (job,) = jobs_in(here / "sweep")
    assert job.state() == "interrupted", "no process holds the job's folder any more"
    assert not list(here.glob("work_dirs/stage1/*/stage1.json"))
    assert main(["status", "sweep"]) == 0
    assert "interrupted  seed 0" in capsys.readouterr().out

    assert main(call) == 0
    assert "from epoch" in job.log.read_text() and job.state() == "done"
    launch(*(short(name.partition("/")[2], **long) for name in names), folder="whole")
    assert results(here / "leaderboards" / "records") == results(here / "whole" / "records")

    (manifest,) = here.glob("work_dirs/stage1/*/stage1.json")
    parts = [record.stage_parts["stage2"] for record in read_records(here / "leaderboards" / "records")]
    assert sum(part["following"] for part in parts) > 0
    once = sum(sum(part.values()) - part["following"] - part["features"] for part in parts)
    cost = job.cost()
    assert cost["stage1"] == json.loads(manifest.read_text())["seconds"], "with what followed it"
    assert cost["other"] == pytest.approx(once + max(part["features"] for part in parts))


def test_a_failing_job_and_retry(
    here: Path, broken: Path, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    call = words(str(broken), "digits_lt/ncm", "--jobs", "2", options=options)
    assert main(call) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("lt-bench: 1 of 2 jobs failed;") and printed.err.count("\n") == 1
    assert "mine/fragile seed 0 failed: the disk of this test is full; free space (log: " in printed.out
    assert (here / "leaderboards/records/digits_lt/ncm/seed_0.json").exists()
    (broken.parent / "broken").unlink()
    assert main(call) == 2, "not run again unasked"
    assert main([*call[:1], "--retry", *call[1:]]) == 0
    assert "2 of 2 done" in capsys.readouterr().out
    assert (here / "leaderboards/records/mine/fragile/seed_0.json").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["digits_lt/nothing"], "no config"),
        (["digits_lt/crt", "--seeds", "-1"], "a seed is a whole number"),
        (["digits_lt/crt", "digits_lt/crt"], "named twice"),
        (["digits_lt/crt", "--jobs", "0"], "--jobs is a whole number from 1"),
        (["digits_lt/crt", "--gpus", "1"], "--gpus is for SLURM"),
        (["digits_lt/crt", "--slurm"], "--slurm needs --time"),
        (["digits_lt/crt", "--slurm", "--time", "soon"], "--time is minutes"),
    ],
)
def test_bad_input(
    here: Path, given: list[str], sentence: str, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert main(words(*given, options=options)) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not (here / "sweep").exists() and not (here / "work_dirs").exists()


def test_the_status_of_no_sweep(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["status", "sweep"]) == 2
    error = capsys.readouterr().err
    assert "holds no jobs of a sweep" in error and error.count("\n") == 1


def test_one_sweep_at_a_time(here: Path, options: list[str], capsys: pytest.CaptureFixture) -> None:
    with exclusive(here / "sweep", "a test"):
        assert main(words("digits_lt/plain", options=options)) == 2
    error = capsys.readouterr().err
    assert "is held by another process" in error and "--folder" in error
    assert not list(here.glob("sweep/jobs/*"))
