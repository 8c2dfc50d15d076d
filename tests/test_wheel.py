"""The wheel works without the clone: configs by name, methods, tables."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def command(site: Path, cwd: Path, *words: str) -> str:
    # -P and PYTHONPATH: the unpacked wheel is found before the clone that the tests run from.
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lt_bench.cli", *words],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_configs_and_tables_are_in_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import lt_bench, methods; print(lt_bench.__file__, methods.__file__)"],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert all(Path(path).is_relative_to(unpacked) for path in where)
    assert "digits_lt/breadcrumb_strong" in command(unpacked, tmp_path, "list", "configs")
    printed = command(unpacked, tmp_path, "run", "digits_lt/ncm", "--cfg-options", "stage1.epochs=1")
    assert "NCM" in printed and (tmp_path / "leaderboards/records/digits_lt/ncm/seed_0.json").is_file()
