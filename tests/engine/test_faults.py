"""A full disk, a damaged store or record, a lost process: one sentence, exit code 2, and nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_bench.config import load_experiment
from lt_bench.engine.checkpoints import saved_epochs
from lt_bench.errors import LTBenchError
from lt_bench.snapshots.recorder import SnapshotRecorder
from tests.engine.test_resume import METHODS, assert_same_run, command, scores
from tests.image_tree import coloured_splits, write_image_tree
from tests.ranks import need_gloo, start

# Without what torch and MMEngine warn of.
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def sentences(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith("lt-bench:")]


def one_sentence(told: str) -> str:
    assert "Traceback" not in told, told
    (sentence,) = sentences(told)
    return sentence


# A limit on the size of files stands for a disk that is full: the system refuses the same write calls.
LIMITED = """
import resource, sys
from lt_bench import cli
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("part", ["checkpoint", "store"])
def test_a_full_disk(short: Callable, launch: Callable, tmp_path: Path, part: str) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limits on files")
    assert resource.RLIMIT_FSIZE is not None
    experiments = [short(stem) for stem in METHODS]
    whole = launch(*experiments, folder="whole")
    (stage,) = (tmp_path / "whole/work/stage1").iterdir()
    checkpoints = [p.stat().st_size for p in saved_epochs(stage).values()]
    shards = [p.stat().st_size for p in (stage / "snapshots").iterdir()]
    # Checkpoints grow with the trails; the one of the first epoch is the smallest.
    # Another process's may be a little smaller: whole numbers, of memory say, take as many bytes as they
    # need, and what lies in the file is padded.
    limit = checkpoints[-1] - 1024 if part == "checkpoint" else min(shards) - 1
    assert part == "store" or limit > max(shards)
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *command(tmp_path / "cut")[3:]],
        env=QUIET,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended.stderr
    wanted = "epoch_" if part == "checkpoint" else "safetensors"
    sentence = one_sentence(ended.stderr)
    assert "cannot write" in sentence and wanted in sentence and "free space" in sentence, sentence
    resumed = launch(*experiments, folder="cut", unfinished="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)
    assert not list((tmp_path / "cut").glob("work/stage1/*/.epoch*")), "no half of a file is left"


@pytest.mark.parametrize("part", ["store", "record"])
def test_a_truncated_store_or_record_is_named(
    short: Callable, launch: Callable, tmp_path: Path, part: str
) -> None:
    first = launch(short("breadcrumb_strong"))
    if part == "store":
        path = max(tmp_path.glob("here/work/stage1/*/snapshots/*"))
        # A classifier that comes late replays what is stored.
        late = short("breadcrumb_strong", **{"method.classifier.alignment": "none"})
        late.config["method"]["label"] = "late"
        options = {"folder": "here", "replace": True}
    else:
        path, late, options = first[0][0], short("breadcrumb_strong"), {}
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LTBenchError, match=rf"{path.name}"):
        launch(late, **options)
    path.write_bytes(content)
    assert launch(late, **options)


def test_an_image_root_that_vanishes(launch: Callable, tmp_path: Path) -> None:
    """A file server that goes away between two epochs, while workers decode."""
    tree = write_image_tree(tmp_path / "tree", "imagenet_lt", coloured_splits())
    sizes = {"train_transforms.0.size": 32, "test_transforms.0.size": 36, "test_transforms.1.size": 32}
    stage1 = {"stage1.epochs": 3, "stage1.batch_size": 32, "stage1.numerics.precision": "fp32"}
    runtime = {"runtime.workers": 2, "runtime.checkpoint_interval": 1, "snapshots.keep": "all"}
    trails = {"method.classifier.n_b": 4, "classifier_recipe.batch_size": 32}
    experiment = load_experiment(
        "imagenet_lt/breadcrumb_strong_r10", {**sizes, **stage1, **runtime, **trails, **tree.options}
    )
    whole = launch(experiment, folder="whole")
    away = tmp_path / "away"
    original = SnapshotRecorder.end_epoch

    def end_epoch(self, snapshot, *, last=False):
        original(self, snapshot, last=last)
        tree.root.rename(away)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SnapshotRecorder, "end_epoch", end_epoch)
        with pytest.raises(LTBenchError, match=r"cannot read image .*: No such file.*--resume"):
            launch(experiment, folder="cut")
    with pytest.raises(LTBenchError, match="image root .* is no folder"):
        launch(experiment, folder="cut", unfinished="resume")
    away.rename(tree.root)
    resumed = launch(experiment, folder="cut", unfinished="resume")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert scores(resumed) == scores(whole)


def ranks_in_training(folder: Path, timeout: str) -> list[subprocess.Popen[str]]:
    """Two ranks, once there is a checkpoint; with epochs enough to be caught in."""
    need_gloo()
    words = command(folder, "stage1.epochs=400", "runtime.checkpoint_interval=1")
    words.insert(words.index("--cfg-options"), "--launcher=pytorch")
    words.insert(words.index("--cfg-options"), f"--timeout={timeout}")
    ranks = start(words[1:], PYTHONWARNINGS="ignore")
    deadline = time.monotonic() + 120
    while not list(folder.glob("work/stage1/*/epoch_*.pth")):
        assert all(rank.poll() is None for rank in ranks) and time.monotonic() < deadline
        time.sleep(0.05)
    return ranks


@pytest.mark.parametrize("how", ["dead", "silent"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_rank_ends_the_other(tmp_path: Path, how: str, lost: int) -> None:
    ranks = ranks_in_training(tmp_path, "5")
    try:
        ranks[lost].send_signal(signal.SIGKILL if how == "dead" else signal.SIGSTOP)
        started = time.monotonic()
        _, told = ranks[1 - lost].communicate(timeout=60)
        assert time.monotonic() - started < 40, "five seconds and what Python takes to end"
        assert ranks[1 - lost].returncode == 2, told
        sentence = one_sentence(told)
        assert f"process {1 - lost} of 2 lost the others" in sentence and "--resume" in sentence
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def test_ranks_that_do_not_meet_say_so(tmp_path: Path) -> None:
    need_gloo()
    words = command(tmp_path)
    words.insert(words.index("--cfg-options"), "--launcher=pytorch")
    words.insert(words.index("--cfg-options"), "--timeout=2")
    (alone,) = start(words[1:], 1, WORLD_SIZE="2", PYTHONWARNINGS="ignore")
    _, told = alone.communicate(timeout=60)
    assert alone.returncode == 2 and "did not meet the others" in one_sentence(told), told
