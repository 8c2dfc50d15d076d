"""Specs of sweeps, and a config that fails while a file is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lt_bench.config.folders import find_config
from lt_bench.sweep.job import Spec, SweepJob
from tests.short import SHORT

MODULE = '''
from pathlib import Path

from lt_bench.errors import LTBenchError
from lt_bench.registry import METHODS
from methods.plain import Plain


@METHODS.register_module("broken_while_there", force=True)
class Broken(Plain):
    """Fails in training, not before, while a file lies beside it."""

    def criterion(self, logits, labels):
        if (Path(__file__).parent / "broken").exists():
            raise LTBenchError("the disk of this test is full; free space")
        return super().criterion(logits, labels)
'''


@pytest.fixture()
def options() -> list[str]:
    """Words of ``--cfg-options`` for a run of seconds, the same with any number of threads."""
    return [f"{key}={value}" for key, value in {**SHORT, "stage1.numerics.threads": 1}.items()]


@pytest.fixture()
def spec(tmp_path: Path) -> Callable[..., Spec]:
    """A spec that no config is behind."""

    def make(**changes: Any) -> Spec:
        given: dict[str, Any] = {
            "configs": ("digits_lt/crt",),
            "names": ("digits_lt/crt",),
            "keys": ("0" * 64,),
            "seed": 0,
            "options": (),
            "stages": ("0123456789abcdef",),
            "work_dir": str(tmp_path / "work"),
            "records": str(tmp_path / "records"),
        }
        return Spec(**{**given, **changes})

    return make


@pytest.fixture()
def job(tmp_path: Path, spec: Callable[..., Spec]) -> Callable[..., SweepJob]:
    """A job with its folder."""

    def make(**changes: Any) -> SweepJob:
        made = spec(**changes)
        found = SweepJob(tmp_path / "sweep" / "jobs" / made.id, made)
        found.create()
        return found

    return make


@pytest.fixture()
def broken(tmp_path: Path) -> Path:
    """A config whose training fails while the file ``broken`` lies beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "broken_while_there.py").write_text(MODULE)
    base = find_config("digits_lt/plain").path.resolve()
    config = folder / "fragile.py"
    config.write_text(
        f"_base_ = [{str(base)!r}]\n"
        "custom_imports = dict(imports=['broken_while_there'])\n"
        "method = dict(label='Fragile', representation=dict(type='broken_while_there'))\n"
    )
    (folder / "broken").touch()
    return config
