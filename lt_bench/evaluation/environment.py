"""What a run ran on: the code's version and the environment, as the run record keeps them."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import lt_bench

PACKAGES = ("torch", "torchvision", "mmengine", "mmpretrain", "numpy")
CODE_FOLDERS = ("lt_bench", "methods", "configs")
# What seconds are of: they are compared only where all of it is the same.
PLACE = ("cpu", "device", "threads")


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers in ``root``; None without git, outside of a checkout or on a refusal."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def code_version() -> dict[str, Any]:
    """The package's version and, in a git checkout of this project, its commit.

    Returns:
        ``version``, ``commit`` (None outside of a checkout, also where the installed package merely
        lies inside of somebody's repository) and ``dirty``: whether the code, the methods or the
        configs differ from that commit (None without one).
    """
    root = Path(lt_bench.__file__).resolve().parent.parent
    commit = dirty = None
    if _git(root, "ls-files", "--error-unmatch", "lt_bench/__init__.py") is not None:
        commit = _git(root, "rev-parse", "HEAD")
        present = [name for name in CODE_FOLDERS if (root / name).is_dir()]
        changes = _git(root, "status", "--porcelain", "--", *present)
        dirty = None if changes is None or commit is None else bool(changes)
    return {"version": lt_bench.__version__, "commit": commit, "dirty": dirty}


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name as the system gives it; the architecture where it gives none."""
    try:
        listing = Path("/proc/cpuinfo").read_text()
    except OSError:
        listing = ""
    for line in listing.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def describe_environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Versions, platform, device and threads; no host name, user name or path.

    Args:
        device: the device that the run used.
    """
    device = torch.device(device)
    on_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        **{name: _package_version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if on_cuda else device.type,
        "cuda": torch.version.cuda if on_cuda else None,
    }
