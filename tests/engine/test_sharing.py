"""Stage 1 is trained once for all that share it; records are found again; seeds matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lt_bench.engine.checkpoints import latest_checkpoint
from lt_bench.engine.locks import exclusive
from lt_bench.errors import LTBenchError
from lt_bench.run import shared_stage1


@pytest.fixture()
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Identities of the stage 1s that were trained."""
    done: list[str] = []
    original = shared_stage1.train

    def train(stage, **kwargs):
        done.append(stage.identity)
        return original(stage, **kwargs)

    monkeypatch.setattr(shared_stage1, "train", train)
    return done


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (stage,) = (folder / "work" / "stage1").iterdir()
    path = latest_checkpoint(stage)
    assert path is not None
    return torch.load(path, weights_only=True)["state_dict"]


def test_one_call_and_later_calls_share_stage_1(
    short: Callable, launch: Callable, trainings: list[str]
) -> None:
    launch(short("plain"), short("crt"), short("breadcrumb_weak"))
    assert len(trainings) == 1
    launch(short("ncm"), short("breadcrumb_strong"))
    assert len(trainings) == 1
    launch(short("plain", **{"stage1.optimizer.lr": 0.01}), folder="other")
    assert len(set(trainings)) == 2


def test_what_changes_no_weights_changes_no_identity(
    short: Callable, launch: Callable, trainings: list[str]
) -> None:
    launch(short("plain"))
    launch(short("crt", **{"runtime.eval_batch_size": 7, "convention": "paper"}))
    assert len(trainings) == 1


def test_an_identical_call_finds_its_record(short: Callable, launch: Callable, trainings: list[str]) -> None:
    first = launch(short("plain"))
    again = launch(short("plain"))
    # With its times and the moment it was made.
    assert again == first and len(trainings) == 1
    replaced = launch(short("plain"), replace=True)
    assert replaced != first and len(trainings) == 1
    assert replaced[0][1].scores == first[0][1].scores


def test_another_run_is_not_overwritten(short: Callable, launch: Callable) -> None:
    (path, _), *_ = launch(short("plain"))
    before = path.read_bytes()
    with pytest.raises(LTBenchError, match="another run"):
        launch(short("plain", **{"stage1.epochs": 2}))
    assert path.read_bytes() == before


def test_same_seed_repeats_and_seeds_differ(short: Callable, launch: Callable, tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        launch(short("plain", **{"stage1.epochs": 2}), seeds=(seed,), folder=folder)
    a, b, c = (weights(tmp_path / folder) for folder in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])


def test_a_config_named_twice_is_refused(short: Callable, launch: Callable) -> None:
    with pytest.raises(LTBenchError, match="twice"):
        launch(short("plain"), short("plain"))


def test_a_folder_held_by_another_is_refused(tmp_path: Path) -> None:
    import subprocess
    import sys

    hold = (
        "import sys, pathlib\nfrom lt_bench.engine.locks import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1]), 'a test'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(LTBenchError, match=rf"pid {other.pid}.*wait"), exclusive(tmp_path, "stage 1"):
        pass
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    with exclusive(tmp_path, "stage 1"):
        pass
