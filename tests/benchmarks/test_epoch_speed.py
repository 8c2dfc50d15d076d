"""An epoch of the harness against a bare PyTorch loop of the same numerics.

ResNet-32 on images of CIFAR's shape, batch 128, fp32, channels-last. Both train the same model on the same
batches from the same loader; the harness adds MMEngine's hooks, the capture of snapshots, three strong
Breadcrumb classifiers that follow, the logs and the checkpoint's share. Epochs of the two alternate in one
process, so that whatever else the machine does falls on both. ``ratio`` is harness over bare, of the
medians; the goal is at most 1.1. ``ratio_per_step`` leaves out what happens once an epoch. No time is
asserted.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

import lt_bench.engine.stage1 as stage1_module
from lt_bench.config import Experiment, load_experiment
from lt_bench.engine.data import build_data, training_loader
from lt_bench.engine.loop import StageOneLoop
from lt_bench.engine.stage1 import StageOne, build_model, train
from lt_bench.registry import METHODS
from lt_bench.task import Task

THREADS = torch.get_num_threads()  # as the machine has them, not the one of other tests
FULL = os.environ.get("LT_BENCH_FULL") == "1"
IMAGES = 10_800 if FULL else 640
EPOCHS = 5


def experiment(folder: Path) -> Experiment:
    """CIFAR-100-LT's config, on random images of its shape."""
    draw = np.random.default_rng(0)
    labels = np.concatenate([np.arange(100), draw.integers(0, 100, IMAGES - 100)])
    path = folder / "images.npz"
    np.savez(
        path,
        train_images=draw.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8),
        train_labels=labels,
        test_images=draw.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8),
        test_labels=np.arange(100),
    )
    found = load_experiment("cifar100_lt/breadcrumb_strong_r32", {"stage1.epochs": EPOCHS})
    found.config["dataset"] = {"type": "array_lt", "path": str(path)}
    return found


@pytest.mark.benchmark_suite
def test_harness_epoch_against_a_bare_loop(benchmark, tmp_path, monkeypatch):
    torch.set_num_threads(THREADS)
    config = experiment(tmp_path).config
    data = build_data(config["dataset"])
    stage = StageOne(tmp_path / "stage1", "benchmark", config, data, Task.of(data, "strict"), 0)

    bare_model = build_model(stage).train()
    given = {k: v for k, v in config["stage1"]["optimizer"].items() if k != "type"}
    optimizer = torch.optim.SGD(bare_model.parameters(), **given)
    loader = training_loader(
        data,
        config,
        {"type": "instance"},
        batch_size=config["stage1"]["batch_size"],
        epochs=EPOCHS,
        seed=0,
        device=torch.device("cpu"),
    )

    def bare_epoch(epoch: int) -> float:
        start = time.perf_counter()
        loader.set_epoch(epoch)
        for batch in loader:
            loss = F.cross_entropy(bare_model.head(bare_model.features(batch.images)), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    harness: list[float] = []
    bare: list[float] = []
    steps: list[float] = []
    original = StageOneLoop.run_epoch
    original_hook = stage1_module.SnapshotHook.after_train_epoch

    def run_epoch(loop: StageOneLoop) -> None:
        epoch = loop.epoch
        start = time.perf_counter()
        original(loop)
        harness.append(time.perf_counter() - start)
        bare.append(bare_epoch(epoch))

    def after_train_epoch(hook, runner) -> None:
        start = time.perf_counter()
        original_hook(hook, runner)
        steps.append(time.perf_counter() - start)

    monkeypatch.setattr(StageOneLoop, "run_epoch", run_epoch)
    monkeypatch.setattr(stage1_module.SnapshotHook, "after_train_epoch", after_train_epoch)
    following = {
        alignment: METHODS.build(
            {**config["method"]["classifier"], "alignment": alignment, "task": stage.task}
        )
        for alignment in ("mean", "variance", "class_agnostic")
    }
    benchmark.pedantic(
        train,
        args=(stage,),
        kwargs={
            "following": following,
            "plans": [classifier.plan() for classifier in following.values()],
            "resume": False,
            "force": False,
            "launcher": "none",
            "console": Console(quiet=True),
            "code": {"version": "benchmark", "commit": None, "dirty": None},
        },
        rounds=1,
    )
    # The first epoch of each warms up the convolutions.
    harness_median, bare_median = statistics.median(harness[1:]), statistics.median(bare[1:])
    benchmark.extra_info.update(
        ratio=harness_median / bare_median,
        ratio_per_step=(harness_median - statistics.median(steps[1:])) / bare_median,
        goal=1.1,
        harness_epoch_seconds=harness_median,
        bare_epoch_seconds=bare_median,
        end_of_epoch_seconds=statistics.median(steps[1:]),
        images=IMAGES,
        threads=torch.get_num_threads(),
    )
    assert len(harness) == len(bare) == EPOCHS
