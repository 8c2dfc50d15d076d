"""An epoch of the harness against a bare PyTorch loop, and against the loop that released codes train with.

ResNet-32 on images of CIFAR-100-LT's shape, batch 128. The harness runs its config as it is: bfloat16,
channels-last, MMEngine's hooks, the capture of snapshots, three strong Breadcrumb classifiers that follow,
the logs and the store.

*bare*      the same numerics on the same batches from the same loader, and nothing else. ``ratio`` is harness
            over bare, of the medians; the goal is at most 1.05. ``ratio_per_step`` leaves out what happens
            once an epoch.
*released*  :mod:`tests.plain_loop`: PIL images one by one in a DataLoader's workers, fp32, NCHW, the loss
            read in every step. ``times_faster`` is released over harness; the goal is at least 5 on two CPU
            cores and 20 on a GPU. ``times_faster_started`` leaves out what it takes to start the workers,
            which weighs more in an epoch as short as this one. How much bfloat16 and channels-last give
            depends on the processor: ``times_faster`` is of this machine.
*compiled*  the bare loop with ``stage1.numerics.compile``, ``default`` on a CPU and ``reduce-overhead`` on a
            GPU. ``compiled_gain`` is bare over compiled, ``times_faster_compiled`` released over compiled;
            the first round, which compiles, is left out.

Epochs of the four alternate in one process, so that whatever else the machine does falls on all. A range is
of the rounds' own ratios. No time is asserted. LT_BENCH_FULL=1 takes all 10,847 images.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import statistics
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from rich.console import Console

from lt_bench.engine.data import build_data, training_loader
from lt_bench.engine.loop import StageOneLoop
from lt_bench.engine.runner import StageOneRunner
from lt_bench.engine.stage1 import StageOne, build_model, numerics_of
from lt_bench.engine.training import train
from lt_bench.models.compiled import begin_step
from lt_bench.models.stage_one import Numerics
from lt_bench.registry import METHODS
from lt_bench.snapshots.hook import SnapshotHook
from lt_bench.task import Task
from tests import plain_loop
from tests.cifar_shape import cifar_experiment, cifar_shape

THREADS = torch.get_num_threads()  # as the machine has them, not the one of other tests
DEVICE = torch.device(get_device())
SHARE = 1 if os.environ.get("LT_BENCH_FULL") == "1" else 8
EPOCHS = 6
# On a CPU there are no graphs to replay.
COMPILED = "reduce-overhead" if DEVICE.type == "cuda" else "default"


def now() -> float:
    """Seconds, with the device's work done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ratios(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """The ratio of the medians, and the range of the rounds' ratios. The first round warms up."""
    over, under = over[1:], under[1:]
    rounds = [a / b for a, b in zip(over, under, strict=True)]
    return statistics.median(over) / statistics.median(under), min(rounds), max(rounds)


class Released:
    """The released codes' loop on a stage's data."""

    def __init__(self, stage: StageOne) -> None:
        given = stage.config["stage1"]["optimizer"]
        settings = {key: given[key] for key in ("lr", "momentum", "weight_decay")}
        model = build_model(stage)
        model.numerics = Numerics()
        self.model = model.to(DEVICE, memory_format=torch.contiguous_format).train()
        self.optimizer = plain_loop.sgd(self.model, **settings)
        normalize = stage.config["train_transforms"][-1]
        transform = plain_loop.transform(32, normalize["mean"], normalize["std"], padding=4, flip=True)
        images = plain_loop.PILImages(stage.data.train.images, stage.data.train.labels, transform)
        self.batches = plain_loop.loader(images, stage.config["stage1"]["batch_size"])
        self.seconds: list[float] = []
        self.starts: list[float] = []

    def epoch(self) -> None:
        """One epoch, and beside it what the first batch takes."""
        start = now()
        next(iter(self.batches))
        self.starts.append(now() - start)
        start = now()
        plain_loop.train_epoch(
            lambda images: self.model.head(self.model.features(images)), self.batches, self.optimizer, DEVICE
        )
        self.seconds.append(now() - start)


class Bare:
    """The harness's numerics and batches in a loop of a few lines, compiled if a mode is given."""

    def __init__(self, stage: StageOne, compile: str | None = None) -> None:
        config = copy.deepcopy(stage.config)
        config["stage1"]["numerics"]["compile"] = compile
        self.model = build_model(dataclasses.replace(stage, config=config)).to(DEVICE).train()
        given = {k: v for k, v in stage.config["stage1"]["optimizer"].items() if k != "type"}
        self.optimizer = torch.optim.SGD(self.model.parameters(), **given)
        self.loader = training_loader(
            stage.data,
            stage.config,
            {"type": "instance"},
            batch_size=stage.config["stage1"]["batch_size"],
            epochs=EPOCHS,
            seed=0,
            device=DEVICE,
        )
        self.seconds: list[float] = []

    def epoch(self) -> None:
        """One epoch."""
        start = now()
        self.loader.set_epoch(len(self.seconds))
        for batch in self.loader:
            begin_step()
            loss = F.cross_entropy(self.model.head(self.model.features(batch.images)), batch.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.seconds.append(now() - start)


@pytest.mark.benchmark_suite
def test_harness_epoch_against_a_bare_loop_and_the_released_one(
    benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(THREADS)
    dataset = cifar_shape(tmp_path, SHARE)
    config = cifar_experiment("breadcrumb_strong_r32", dataset, stage1__epochs=EPOCHS).config
    data = build_data(config["dataset"])
    stage = StageOne(tmp_path / "stage1", "benchmark", config, data, Task.of(data, "strict"), 0)
    bare, compiled, released = Bare(stage), Bare(stage, COMPILED), Released(stage)
    harness: list[float] = []
    ends: list[float] = []
    run_epoch = StageOneLoop.run_epoch
    end_epoch = SnapshotHook.after_train_epoch

    def in_turn(loop: StageOneLoop) -> None:
        # As in a run; the released loop has PyTorch's own settings.
        with numerics_of(config).applied():
            start = now()
            run_epoch(loop)
            harness.append(now() - start)
            bare.epoch()
            compiled.epoch()
        released.epoch()

    def timed_end(hook: SnapshotHook, runner: StageOneRunner) -> None:
        start = now()
        end_epoch(hook, runner)
        ends.append(now() - start)

    monkeypatch.setattr(StageOneLoop, "run_epoch", in_turn)
    monkeypatch.setattr(SnapshotHook, "after_train_epoch", timed_end)
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
            "unfinished": None,
            "launcher": "none",
            "console": Console(quiet=True),
            "code": {"version": "benchmark", "commit": None, "dirty": None},
            "teachers": {},
        },
        rounds=1,
    )
    assert len(harness) == len(bare.seconds) == len(compiled.seconds) == len(released.seconds) == EPOCHS
    ratio, low, high = ratios(harness, bare.seconds)
    steps = [whole - end for whole, end in zip(harness, ends, strict=True)]
    faster, least, most = ratios(released.seconds, harness)
    started = [whole - start for whole, start in zip(released.seconds, released.starts, strict=True)]
    gain, smallest, largest = ratios(bare.seconds, compiled.seconds)
    benchmark.extra_info.update(
        ratio=ratio,
        ratio_from=low,
        ratio_to=high,
        ratio_per_step=ratios(steps, bare.seconds)[0],
        goal=1.05,
        times_faster=faster,
        times_faster_from=least,
        times_faster_to=most,
        times_faster_started=ratios(started, harness)[0],
        times_faster_goal=20 if DEVICE.type == "cuda" else 5,
        compiled_gain=gain,
        compiled_gain_from=smallest,
        compiled_gain_to=largest,
        times_faster_compiled=ratios(released.seconds, compiled.seconds)[0],
        compile_seconds=compiled.seconds[0] - statistics.median(compiled.seconds[1:]),
        harness_epoch_seconds=statistics.median(harness[1:]),
        bare_epoch_seconds=statistics.median(bare.seconds[1:]),
        released_epoch_seconds=statistics.median(released.seconds[1:]),
        end_of_epoch_seconds=statistics.median(ends[1:]),
        images=len(data.train),
        workers=plain_loop.WORKERS,
        device=DEVICE.type,
        threads=torch.get_num_threads(),
    )
