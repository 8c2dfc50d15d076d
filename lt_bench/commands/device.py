"""The device that a command runs on, by the name that a person gave it."""

from __future__ import annotations

import os

from lt_bench.errors import LTBenchError


def check_device(device: str) -> None:
    """Refuse what is no name of a device.

    Raises:
        LTBenchError: an unknown device.
    """
    name, colon, index = device.partition(":")
    if device not in ("auto", "cpu") and (name != "cuda" or (colon and not index.isdigit())):
        raise LTBenchError(f"--device is auto, cpu, cuda or cuda:<n>; got {device!r}")


def choose_device(device: str) -> None:
    """Make ``device`` the one that MMEngine finds; before CUDA is first used.

    Raises:
        LTBenchError: an unknown device, or one that is not there.
    """
    check_device(device)
    if device == "auto":
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    index = device.partition(":")[2]
    if index:
        # A scheduler may have lent only some of the machine's devices: n counts among those.
        lent = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        if lent and int(index) >= len(lent):
            raise LTBenchError(f"--device {device}: only {len(lent)} CUDA devices are visible; count from 0")
        os.environ["CUDA_VISIBLE_DEVICES"] = lent[int(index)] if lent else index
    import torch

    if not torch.cuda.is_available():
        raise LTBenchError(f"--device {device}: no such CUDA device is here; use --device cpu")
