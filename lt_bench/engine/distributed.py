"""Starting processes' communication before MMEngine's runner is built.

MMEngine's ``init_dist`` calls ``torch.cuda.set_device`` whatever the back end, which fails on a machine
without a GPU; where there is none, the gloo group is made here and the runner finds it.
"""

from __future__ import annotations

import os

import torch
from mmengine.dist import init_dist

from lt_bench.errors import LTBenchError

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")


def start(launcher: str) -> None:
    """Join the process group of ``launcher``; nothing for ``none`` or where it is joined already.

    Raises:
        LTBenchError: the launcher is unknown or its environment variables are missing.
    """
    if launcher not in LAUNCHERS:
        raise LTBenchError(f"--launcher is one of {', '.join(LAUNCHERS)}; got {launcher!r}")
    if launcher == "none" or torch.distributed.is_initialized():
        return
    if torch.cuda.is_available():
        init_dist(launcher, backend="nccl")
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
    torch.distributed.init_process_group("gloo")


def stop() -> None:
    """Leave the process group, if one was joined."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
