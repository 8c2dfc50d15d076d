"""What a launcher tells a process, and what a process says that was started without its launcher."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lt_bench.engine import distributed
from lt_bench.errors import LTBenchError
from tests.ranks import ROOT, free_port, need_gloo

SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "77"}


@pytest.fixture()
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment of no launcher, whose changes do not outlive the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMPI_"))}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        kept.pop(name, None)
    monkeypatch.setattr(os, "environ", kept)
    return monkeypatch


@pytest.mark.parametrize("gpus", [0, 2])
@pytest.mark.parametrize(
    ("launcher", "told"),
    [
        (
            "pytorch",
            "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start the command with torchrun",
        ),
        ("slurm", "SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, .*; start the command with srun"),
        ("mpi", "OMPI_COMM_WORLD_RANK, .*; start the command with mpirun"),
    ],
)
def test_without_its_launcher_one_sentence(
    unlaunched: pytest.MonkeyPatch, launcher: str, told: str, gpus: int
) -> None:
    unlaunched.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    unlaunched.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(LTBenchError, match=f"--launcher {launcher} expects .*{told}"):
        distributed.start(launcher)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), 1e15])
def test_a_timeout_that_is_none(timeout: float) -> None:
    with pytest.raises(LTBenchError, match="--timeout is a number of seconds above 0"):
        distributed.start("pytorch", timeout)


def test_more_processes_than_gpus(unlaunched: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "SLURM_LOCALID": "2"}.items():
        unlaunched.setitem(os.environ, name, value)
    unlaunched.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(LTBenchError, match="process 2 of this machine.* sees 2 GPUs"):
        distributed.start("slurm")


def test_loaders_of_gpus_fork_their_workers_too(unlaunched: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        unlaunched.setitem(os.environ, name, value)
    methods = []
    unlaunched.setattr(torch.cuda, "device_count", lambda: 2)
    unlaunched.setattr(multiprocessing, "get_start_method", lambda allow_none=False: None)
    unlaunched.setattr(multiprocessing, "set_start_method", methods.append)
    unlaunched.setattr(distributed, "init_dist", lambda *given, **options: methods.append("joined"))
    distributed.start("slurm")
    assert methods == ["fork", "joined"]


def joined_at(unlaunched: pytest.MonkeyPatch, told: dict[str, str]) -> dict[str, str]:
    """What torch would read of what SLURM tells."""
    os.environ.update(told)
    unlaunched.setattr(torch.cuda, "device_count", lambda: 0)
    unlaunched.setattr(torch.distributed, "init_process_group", lambda *args, **kwargs: None)
    distributed.start("slurm")
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    return {name: os.environ[name] for name in names}


def test_tasks_of_a_slurm_step_meet_on_its_first_node(unlaunched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not on the node where srun was typed, which may run no task at all."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames gpu[07-08]" ] && printf "gpu07\\ngpu08\\n"\n')
    scontrol.chmod(0o755)
    os.environ["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    nodes = {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[07-08]"}
    found = joined_at(unlaunched, {**SLURM, **nodes, "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1", "RANK": "9"})
    assert found.pop("MASTER_PORT").isdigit()
    assert found == {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "gpu07"}


def test_a_first_node_that_is_not_named(unlaunched: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.environ["PATH"] = str(tmp_path)
    with pytest.raises(LTBenchError, match=r"scontrol show hostnames a\[1-2\] does not name .*MASTER_ADDR"):
        joined_at(unlaunched, {**SLURM, "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "a[1-2]"})


def test_two_steps_on_one_node_do_not_meet(unlaunched: pytest.MonkeyPatch) -> None:
    steps = [("77", "0"), ("77", "1"), ("78", "0")]
    ports = set()
    for job, step in steps:
        os.environ.pop("MASTER_PORT", None)
        found = joined_at(unlaunched, {**SLURM, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step})
        assert found["MASTER_ADDR"] == "localhost"
        ports.add(found["MASTER_PORT"])
    assert len(ports) == len(steps)


def test_torchrun_starts_two_ranks(tmp_path: Path) -> None:
    """The line of the README, on CPUs."""
    need_gloo()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    call = ["-m", "lt_bench.cli", "run", "digits_lt/plain", "--launcher", "pytorch", "--device", "cpu"]
    done = subprocess.run(
        [*torchrun, *call, "--cfg-options", "stage1.epochs=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Overall") == 1, "one rank tells"
    assert len(list(tmp_path.glob("leaderboards/records/digits_lt/plain/seed_0.json"))) == 1


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun (Open MPI) is not there")
def test_mpirun_starts_two_ranks(tmp_path: Path) -> None:
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    words = [
        *root,
        "--oversubscribe",
        "-n",
        "2",
        "-x",
        "MASTER_ADDR=127.0.0.1",
        "-x",
        f"MASTER_PORT={free_port()}",
    ]
    call = ["-m", "lt_bench.cli", "run", "digits_lt/plain", "--launcher", "mpi", "--device", "cpu"]
    done = subprocess.run(
        ["mpirun", *words, sys.executable, *call, "--cfg-options", "stage1.epochs=1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Overall") == 1
