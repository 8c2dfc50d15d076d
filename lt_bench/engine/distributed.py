"""Starting processes' communication before MMEngine's runner is built.

MMEngine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the back end, which fails on a machine
without a GPU; where there is none, the gloo group is made here and the runner finds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from mmengine.dist import init_dist

from lt_bench.errors import LTBenchError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
# Seconds after which a process that does not answer is given up.
TIMEOUT = 600


@contextmanager
def joined(launcher: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """A block as one of the processes of ``launcher``.

    Args:
        launcher: see :data:`LAUNCHERS`.
        timeout: seconds that the others may let this process wait.

    Raises:
        LTBenchError: what :func:`start` refuses; another process ended or did not answer.
    """
    start(launcher, timeout)
    try:
        yield
    except RuntimeError as error:
        if not torch.distributed.is_initialized() or not _is_of_communication(error):
            raise
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        raise LTBenchError(
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
        LTBenchError: the launcher is unknown, its environment variables are missing, or the timeout is not
            above 0.
    """
    if timeout <= 0:
        raise LTBenchError(f"--timeout is a number of seconds above 0, got {timeout:g}")
    limit = timedelta(seconds=timeout)
    if launcher not in LAUNCHERS:
        raise LTBenchError(f"--launcher is one of {', '.join(LAUNCHERS)}; got {launcher!r}")
    if launcher == "none" or torch.distributed.is_initialized():
        return
    if torch.cuda.is_available():
        init_dist(launcher, backend="nccl", timeout=timeout)
        return
    if launcher == "slurm":
        names = {
            "RANK": "SLURM_PROCID",
            "WORLD_SIZE": "SLURM_NTASKS",
            "LOCAL_RANK": "SLURM_LOCALID",
        }
        for name, slurm in names.items():
            if slurm in os.environ:
                os.environ.setdefault(name, os.environ[slurm])
        os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "localhost"))
        os.environ.setdefault("MASTER_PORT", "29500")
    if launcher == "mpi":
        names = {
            "RANK": "OMPI_COMM_WORLD_RANK",
            "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
            "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
        }
        for name, mpi in names.items():
            if mpi in os.environ:
                os.environ.setdefault(name, os.environ[mpi])
    missing = [n for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise LTBenchError(
            f"--launcher {launcher} expects the environment variables {', '.join(missing)}; "
            "start the command with torchrun, or with srun for slurm"
        )
    try:
        torch.distributed.init_process_group("gloo", timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise LTBenchError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not meet the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} within {timeout:g} s (--timeout): "
            f"{' '.join(str(error).split())[:160]}; start all of them, with one address and a free port"
        ) from error


def stop() -> None:
    """Leave the process group, if one was joined."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
