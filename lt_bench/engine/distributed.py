"""Starting processes' communication before MMEngine's runner is built.

MMEngine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the back end, which fails on a machine
without a GPU; where there is none, the gloo group is made here and the runner finds it.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from mmengine.dist import init_dist

from lt_bench.errors import LostProcesses, LTBenchError

# By launcher: its variables for rank, number of processes and rank on this machine; what sets them.
_LAUNCHED = {
    "pytorch": (("RANK", "WORLD_SIZE", "LOCAL_RANK"), "torchrun"),
    "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"), "srun"),
    "mpi": (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        "mpirun -x MASTER_ADDR -x MASTER_PORT, the first process's address and a free port",
    ),
}
LAUNCHERS = ("none", *_LAUNCHED)
# Seconds after which a process that does not answer is given up.
TIMEOUT = 600
# What a timeout may be at most: some 30 years.
MOST_SECONDS = 1e9


@contextmanager
def joined(launcher: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """A block as one of the processes of ``launcher``.

    Args:
        launcher: see :data:`LAUNCHERS`.
        timeout: seconds that the others may let this process wait.

    Raises:
        LTBenchError: what :func:`start` refuses.
        LostProcesses: another process ended or did not answer.
    """
    start(launcher, timeout)
    try:
        yield
    except RuntimeError as error:
        if not torch.distributed.is_initialized() or not _is_of_communication(error):
            raise
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        raise LostProcesses(
            f"process {rank} of {world} lost the others: "
            f"one has ended, or did not answer within {timeout:g} s (--timeout); see what that one said, and "
            "start all of them again with --resume to go on from the last checkpoint"
        ) from error
    finally:
        stop()


def _is_of_communication(error: RuntimeError) -> bool:
    # NCCL's errors have a class; gloo's are told by their text alone.
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(
        word in text
        for word in ("gloo", "connection closed by peer", "connection reset", "timed out waiting")
    )


def start(launcher: str, timeout: float = TIMEOUT) -> None:
    """Join the process group of ``launcher``; nothing for ``none`` or where it is joined already.

    Raises:
        LTBenchError: the launcher is unknown or did not start this process, the others do not come, there
            is no GPU for this process, or the timeout is out of its range.
    """
    if not 0 < timeout <= MOST_SECONDS:
        raise LTBenchError(
            f"--timeout is a number of seconds above 0, at most {MOST_SECONDS:g}; got {timeout:g}"
        )
    if launcher not in LAUNCHERS:
        raise LTBenchError(f"--launcher is one of {', '.join(LAUNCHERS)}; got {launcher!r}")
    if launcher == "none" or torch.distributed.is_initialized():
        return
    _take_variables(launcher)
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if 0 < gpus <= local:
        raise LTBenchError(
            f"process {local} of this machine, counted from 0, sees {gpus} GPUs; start as many processes a "
            "machine as it has GPUs, and let each see all of them"
        )
    try:
        if gpus:
            # MMEngine would have loaders spawn their workers; everywhere else they are forked.
            if multiprocessing.get_start_method(allow_none=True) is None:
                multiprocessing.set_start_method("fork")
            init_dist(launcher, backend="nccl", timeout=timeout)
        else:
            torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        raise LTBenchError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not meet the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within {timeout:g} s (--timeout): "
            f"{' '.join(str(error).split())[:160]}; start all of them, with one address and a free port"
        ) from error


def _take_variables(launcher: str) -> None:
    """Let the environment have the variables that torch reads, from those that the launcher sets."""
    told, starter = _LAUNCHED[launcher]
    if launcher == "slurm" and all(name in os.environ for name in told):
        os.environ.setdefault("MASTER_ADDR", _first_node())
        # Two runs on one node must not meet.
        step = 31 * int(os.environ.get("SLURM_JOB_ID", 0)) + int(os.environ.get("SLURM_STEP_ID", 0))
        os.environ.setdefault("MASTER_PORT", str(20000 + step % 10000))
    missing = [name for name in (*told, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise LTBenchError(
            f"--launcher {launcher} expects the environment variables {', '.join(missing)}; "
            f"start the command with {starter}"
        )
    os.environ.update(
        zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), map(os.environ.__getitem__, told), strict=True)
    )


def _first_node() -> str:
    """Where the first task of this SLURM step runs."""
    if os.environ.get("SLURM_STEP_NUM_NODES", "1") == "1":
        return "localhost"
    words = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise LTBenchError(
            f"{' '.join(words)} does not name the first node; set MASTER_ADDR to it"
        ) from error


def stop() -> None:
    """Leave the process group, if one was joined."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
