"""Two ranks for tests: a Python script run by two gloo processes at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def need_gloo() -> None:
    """Skip where torch cannot do it."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch has no gloo")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(words: Sequence[str], world: int = 2, **environment: str) -> list[subprocess.Popen[str]]:
    """``python *words`` as each of ``world`` ranks; what they print is piped."""
    need_gloo()
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(ranks: list[subprocess.Popen[str]], timeout: float = 300) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each."""
    told = [rank.communicate(timeout=timeout) for rank in ranks]
    return [(rank.returncode, *out) for rank, out in zip(ranks, told, strict=True)]


def run_script(script: str, *words: str, world: int = 2) -> None:
    """Run ``script`` on every rank; all must end well."""
    ended = finish(start(["-c", script, *words], world))
    assert all(code == 0 for code, _, _ in ended), "\n".join(error for _, _, error in ended)
