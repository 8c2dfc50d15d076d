"""A sweep as a SLURM array, on a real cluster: `tests/slurm/one_node.sh` makes one of one machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from lt_bench.cli import main
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import read_records
from lt_bench.sweep import slurm
from lt_bench.sweep.job import jobs_in
from lt_bench.sweep.watch import Watch


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("12:00:00", 720), ("2-00:00:00", 2880), ("1-12", 2160), ("1-01:30", 1530)],
)
def test_time_limits(text: str, minutes: int) -> None:
    assert slurm.minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["soon", "", "1h", "-5", "0", "0:30", "1:2:3:4"])
def test_time_limits_that_are_none(text: str) -> None:
    with pytest.raises(LTBenchError, match="--time is"):
        slurm.minutes_of(text)


def test_only_what_was_asked_for_is_asked_of_slurm() -> None:
    assert slurm.Resources(30).parameters() == {"time": 30}
    asked = slurm.Resources(30, partition="long", gpus=1, cpus=4, mem="8G").parameters()
    assert asked == {"time": 30, "partition": "long", "gpus_per_node": 1, "cpus_per_task": 4, "mem": "8G"}


def test_without_slurm_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LTBenchError, match="--slurm needs"):
        slurm.check_cluster()


def test_a_silent_queue_submits_nothing_again(
    job: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "queue", lambda: None)
    monkeypatch.setattr(slurm, "_submit", lambda *given: pytest.fail("submitted"))
    jobs = [job()]
    with pytest.raises(LTBenchError, match="SLURM does not answer squeue"):
        slurm.run_there(tmp_path, slurm.Resources(30), "cpu", jobs, Watch(jobs, None, Console(quiet=True)))


@pytest.fixture()
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's folder, where a cluster answers; its nodes are taken to see the same files."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    if shutil.which("sbatch") is None:
        pytest.skip("sbatch is not there; see tests/slurm/one_node.sh")
    if slurm.queue() is None:
        pytest.skip("no SLURM cluster answers; see tests/slurm/one_node.sh")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.5)
    monkeypatch.setattr(slurm, "SETTLE_SECONDS", 3.0)
    return tmp_path


def words(*configs: str, options: Sequence[str]) -> list[str]:
    asked = ["--slurm", "--time", "20", "--cpus", "1", "--device", "cpu"]
    return ["sweep", *configs, "--folder", "sweep", *asked, "--cfg-options", *options]


def results(folder: Path) -> dict[tuple[str, int | None], object]:
    return {(record.name, record.seed): (record.key, record.scores) for record in read_records(folder)}


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    latest = time.monotonic() + 300
    while not what():
        assert time.monotonic() < latest and process.poll() is None
        time.sleep(0.05)


@pytest.mark.slow
def test_an_array_with_a_failure_and_retry(
    cluster: Path, broken: Path, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    configs = ["digits_lt/crt", "digits_lt/breadcrumb_strong", str(broken)]
    call = words(*configs, "--seeds", "0", "1", options=options)
    assert main(call) == 2
    printed = capsys.readouterr()
    assert "submitted 4 jobs to SLURM" in printed.out
    assert printed.err.startswith("lt-bench: 2 of 4 jobs failed;")
    assert "the disk of this test is full" in printed.out
    states = {job.spec.names[0]: job.state() for job in jobs_in(cluster / "sweep")}
    assert states == {"digits_lt/crt": "done", "mine/fragile": "failed"}

    (broken.parent / "broken").unlink()
    assert main([*call[:1], "--retry", *call[1:]]) == 0
    assert "submitted 2 jobs to SLURM" in capsys.readouterr().out

    plain = ["--work-dir", "plain", "--records", "plain/records", "--cfg-options", *options]
    assert main(["run", *configs, "--seeds", "0", "1", *plain]) == 0
    swept = results(cluster / "leaderboards" / "records")
    assert len(swept) == 6 and swept == results(cluster / "plain" / "records")


@pytest.mark.slow
def test_a_warned_job_saves_is_queued_again_and_goes_on(cluster: Path, options: list[str]) -> None:
    """SLURM's warning before a time limit or a pre-emption."""
    call = words("digits_lt/ncm", options=[*options, "stage1.epochs=40"])
    waiting = subprocess.Popen([sys.executable, "-m", "lt_bench.cli", *call], text=True)
    try:
        wait_for(lambda: bool(list(cluster.glob("work_dirs/stage1/*/epoch_*.pth"))), waiting)
        (job,) = jobs_in(cluster / "sweep")
        subprocess.run(["scancel", "--signal=USR2", str(job.slurm_id())], check=True)
        wait_for(lambda: "ended by SIGTERM" in job.log.read_text(), waiting)
        # SLURM starts what is queued again after some minutes; this hastens it.
        wait_for(lambda: (slurm.queue() or {}).get(str(job.slurm_id())) == "PENDING", waiting)
        subprocess.run(["scontrol", "update", f"JobId={job.slurm_id()}", "StartTime=now"], check=False)
        assert waiting.wait(timeout=500) == 0
    finally:
        waiting.kill()
        waiting.wait()
    assert job.state() == "done" and "from epoch" in job.log.read_text()


@pytest.mark.slow
def test_a_sweep_that_ends_leaves_its_jobs_and_finds_them_again(
    cluster: Path, options: list[str], capfd: pytest.CaptureFixture
) -> None:
    call = words("digits_lt/ncm", options=[*options, "stage1.epochs=40"])
    first = subprocess.Popen([sys.executable, "-m", "lt_bench.cli", *call], text=True)
    wait_for(lambda: bool(list(cluster.glob("work_dirs/stage1/*/epoch_*.pth"))), first)
    first.terminate()
    assert first.wait(timeout=120) == 130
    (job,) = jobs_in(cluster / "sweep")
    told = capfd.readouterr().out
    assert f"scancel {job.slurm_id()}" in told and str(job.slurm_id()) in (slurm.queue() or {})
    submitted = job.slurm_id()
    assert main(call) == 0
    assert "1 jobs are with SLURM already" in capfd.readouterr().out
    assert job.slurm_id() == submitted and job.state() == "done"


@pytest.mark.slow
def test_a_cancelled_job_goes_on_at_the_next_call(
    cluster: Path, options: list[str], capfd: pytest.CaptureFixture
) -> None:
    call = words("digits_lt/ncm", options=[*options, "stage1.epochs=40"])
    first = subprocess.Popen([sys.executable, "-m", "lt_bench.cli", *call], text=True)
    wait_for(lambda: bool(list(cluster.glob("work_dirs/stage1/*/epoch_*.pth"))), first)
    (job,) = jobs_in(cluster / "sweep")
    subprocess.run(["scancel", str(job.slurm_id())], check=True)
    assert first.wait(timeout=120) == 2
    assert "1 of 1 jobs were ended from outside" in capfd.readouterr().err
    assert job.state() == "interrupted"
    assert main(call) == 0
    assert job.state() == "done" and "from epoch" in job.log.read_text()


@pytest.mark.slow
def test_srun_starts_two_ranks(cluster: Path, options: list[str]) -> None:
    """`--launcher slurm` on CPUs: two tasks of one srun are the two ranks of one run."""
    cores = subprocess.run(
        ["sinfo", "--noheader", "--format", "%c"], capture_output=True, text=True, check=True
    )
    if max(int(line.rstrip("+")) for line in cores.stdout.split()) < 2:
        pytest.skip("no node has two cores")
    done = subprocess.run(
        [
            *("srun", "--ntasks", "2", "--time", "20", sys.executable, "-m", "lt_bench.cli", "run"),
            *("digits_lt/breadcrumb_strong", "digits_lt/crt", "--launcher", "slurm", "--device", "cpu"),
            *("--cfg-options", *options, "stage1.batch_size=32"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (manifest,) = cluster.glob("work_dirs/stage1/*/stage1.json")
    assert json.loads(manifest.read_text())["world_size"] == 2
    assert done.stdout.count("Overall") == 1, "one rank tells"
    assert len(list(cluster.glob("leaderboards/records/digits_lt/*/seed_0.json"))) == 2
