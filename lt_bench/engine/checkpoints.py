"""Checkpoints that are never half-written and never unpickled unsafely.

MMEngine writes and reads them. Two things are added: a file backend that renames a finished file into
place, and the allow-list without which ``torch.load(weights_only=True)``, the default since torch 2.6,
refuses MMEngine's logs.
"""

from __future__ import annotations

import os
import pickle
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer

from lt_bench.errors import LTBenchError
from lt_bench.files import write_atomically

BACKEND = "lt_bench_atomic"
_NAME = re.compile(r"^epoch_(\d+)\.pth$")
_PREEMPTED = re.compile(r"^preempted_(\d+)_(\d+)\.pth$")


class AtomicBackend(LocalBackend):
    """MMEngine's local backend, with writes that a kill cannot cut in half."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath`` atomically."""
        write_atomically(filepath, bytes(obj))


register_backend(BACKEND, AtomicBackend, force=True)


def _statistic(owner: Any, name: str) -> Any:
    """The ``getattr`` of MMEngine's logs, for their statistics: with Python's own a file calls anything."""
    if owner is not HistoryBuffer or name not in ("min", "max", "current", "mean"):
        raise pickle.UnpicklingError(f"attribute {name!r} of {owner!r} is not read from a checkpoint")
    return getattr(owner, name)


def allow_logs_in_checkpoints() -> None:
    """Let ``weights_only`` loading build MMEngine's history buffers and the numpy arrays in them."""
    # numpy 1 has the functions under another, now private, name.
    multiarray = import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    numbers = {type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "b1", "u1")}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            multiarray._reconstruct,
            multiarray.scalar,
            np.ndarray,
            np.dtype,
            (_statistic, "builtins.getattr"),
            *numbers,
        ]
    )


def saved_epochs(folder: Path) -> dict[int, Path]:
    """The epochs that have a checkpoint in ``folder``, in order."""
    found = {int(m[1]): p for p in folder.glob("epoch_*.pth") if (m := _NAME.search(p.name))}
    return dict(sorted(found.items()))


def preempted_name(epochs: int, steps: int) -> str:
    """The file of a training that was told to end, ``steps`` into the epoch after ``epochs``."""
    return f"preempted_{epochs}_{steps}.pth"


def preempted(folder: Path) -> dict[tuple[int, int], Path]:
    """What trainings that were told to end left in ``folder``, by (epochs done, steps), in order."""
    found = {
        (int(m[1]), int(m[2])): p for p in folder.glob("preempted_*.pth") if (m := _PREEMPTED.search(p.name))
    }
    return dict(sorted(found.items()))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of ``folder``, in the middle of an epoch or not, checked to be readable.

    Raises:
        LTBenchError: it cannot be read; the sentence says what to delete and from where one can go on.
    """
    ends = {(epoch, 0): path for epoch, path in saved_epochs(folder).items()}
    saved = dict(sorted({**preempted(folder), **ends}.items()))
    if not saved:
        return None
    *earlier, (_, path) = saved.items()
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise LTBenchError(
            f"checkpoint {os.fspath(path)} is damaged, or holds objects that are not loaded safely: "
            f"{' '.join(str(error).split())[:200]}; a method's state is tensors, numbers, strings and dicts"
        ) from error
    except OSError as error:
        raise LTBenchError(
            f"checkpoint {os.fspath(path)} cannot be read: {error.strerror or error}; make it readable"
        ) from error
    except Exception as error:
        go_on = "training starts anew"
        if earlier:
            (epoch, step), _ = earlier[-1]
            go_on = f"resume goes on from epoch {epoch}" + (f", step {step}" if step else "")
        raise LTBenchError(
            f"checkpoint {os.fspath(path)} is truncated or damaged "
            f"({type(error).__name__}); delete it, and {go_on}"
        ) from error
    return path
