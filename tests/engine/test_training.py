"""What happens inside stage 1: hooks, validation, capture, numerics, several processes."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from safetensors.torch import load_file

from lt_bench.engine import training
from lt_bench.engine.checkpoints import latest_checkpoint
from lt_bench.engine.data import build_data, evaluation_loader, training_loader
from lt_bench.engine.loop import StageOneLoop
from lt_bench.engine.stage1 import StageOne, build_model
from lt_bench.errors import LTBenchError
from lt_bench.task import Task
from methods.plain import Plain
from tests.short import SHORT


def shards(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {p.name: load_file(p) for p in sorted(folder.glob("work/stage1/*/snapshots/*"))}


def trained_weights(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    """The state of the model in the only stage 1 of a folder, after an epoch."""
    (path,) = folder.glob(f"work/stage1/*/epoch_{epoch}.pth")
    return torch.load(path, weights_only=True)["state_dict"]


def untrained(config: dict[str, Any], folder: Path) -> StageOne:
    """The stage 1 of a config, to build its data and model from."""
    data = build_data(config["dataset"])
    return StageOne(folder, "x", config, data, Task.of(data, "strict"), 0)


class Calls(Hook):
    """Notes the hook points in their order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.losses: list[float] = []

    def before_train(self, runner):
        self.seen.append("before_train")

    def before_train_epoch(self, runner):
        self.seen.append("before_train_epoch")

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append("before_train_iter")

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append("after_train_iter")
        if outputs is not None:
            self.losses.append(outputs["loss"])

    def after_train_epoch(self, runner):
        self.seen.append("after_train_epoch")

    def after_train(self, runner):
        self.seen.append("after_train")


@pytest.fixture()
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    noted = Calls()
    original = training._runner

    def with_calls(stage, model, device, hooks, *more):
        return original(stage, model, device, [*hooks, noted], *more)

    monkeypatch.setattr(training, "_runner", with_calls)
    return noted


def test_hooks_fire_at_the_documented_points(short: Callable, launch: Callable, calls: Calls) -> None:
    options = {"stage1.epochs": 2, "runtime.log_interval": 3}
    (_, record), *_ = launch(short("plain", **options))
    steps = -(-record.dataset["sizes"]["train"] // 32)
    epoch = ["before_train_epoch", *["before_train_iter", "after_train_iter"] * steps, "after_train_epoch"]
    assert calls.seen == ["before_train", *epoch, *epoch, "after_train"]
    assert len(calls.losses) == 2 * -(-steps // 3), "the loss is read once an interval"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_does_not_wait_for_the_device(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the first, which set up what they need, and the last, in which the loss is read."""
    watched: list[int] = []

    class Begin(Hook):
        priority = "LOWEST"

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if 2 <= batch_idx < len(runner.train_dataloader) - 1:
                watched.append(batch_idx)
                torch.cuda.set_sync_debug_mode("error")

    class End(Hook):
        priority = "VERY_HIGH"

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            torch.cuda.set_sync_debug_mode("default")

    original = training._runner

    def with_both(stage, model, device, hooks, *more):
        return original(stage, model, device, [*hooks, Begin(), End()], *more)

    monkeypatch.setattr(training, "_runner", with_both)
    try:
        launch(short("breadcrumb_strong", **{"runtime.log_interval": 1000}))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watched


def test_what_the_logs_hold_does_not_grow(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lt_bench.engine.loop.HISTORY", 5)
    launch(short("plain"))
    path = latest_checkpoint(next(tmp_path.glob("here/work/stage1/*")))
    assert path is not None
    held = torch.load(path, weights_only=True)["message_hub"]["log_scalars"]
    lengths = {name: len(history.data[0]) for name, history in held.items()}
    assert lengths["train/lr"] == lengths["train/time"] == 5


def test_loss_of_a_run_equals_a_bare_loop(short: Callable, launch: Callable, tmp_path: Path) -> None:
    """Three epochs of the harness and of plain PyTorch give the same weights, bit for bit."""
    from lt_bench.seeding import derive_seed

    experiment = short("plain", **{"stage1.epochs": 3, "stage1.schedule": []})
    launch(experiment)
    trained = trained_weights(tmp_path / "here", 3)

    config = experiment.config
    stage = untrained(config, tmp_path)
    model = build_model(stage)
    given = {k: v for k, v in config["stage1"]["optimizer"].items() if k != "type"}
    optimizer = torch.optim.SGD(model.parameters(), **given)
    loader = training_loader(
        stage.data, config, {"type": "instance"}, batch_size=32, epochs=3, seed=0, device=torch.device("cpu")
    )
    for epoch in range(3):
        torch.manual_seed(derive_seed(0, "step", epoch + 1, 0))
        loader.set_epoch(epoch)
        for batch in loader:
            logits = model.head(model.features(batch.images))
            loss = torch.nn.functional.cross_entropy(logits, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(trained[key], value), key


COSINE = [{"type": "CosineAnnealingLR", "T_max": 4, "by_epoch": True}]
STEPS = [
    {"type": "LinearLR", "start_factor": 0.25, "by_epoch": True, "begin": 0, "end": 3},
    {"type": "MultiStepLR", "milestones": [3], "gamma": 0.01, "by_epoch": True},
]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (COSINE, [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]),
        (STEPS, [0.25, 0.625, 1.0, 0.01]),
    ],
    ids=["cosine", "warm-up and a step"],
)
def test_every_step_has_its_epochs_rate(
    short: Callable,
    launch: Callable,
    monkeypatch: pytest.MonkeyPatch,
    schedule: list[dict[str, Any]],
    factors: list[float],
) -> None:
    """Rates of epochs 1, 2, ... are those of the schedule at 0, 1, ...: all numbers hang on it."""
    rates: list[float] = []
    original = OptimWrapper.update_params

    def update_params(self, *given, **named):
        rates.extend(self.get_lr()["lr"])
        original(self, *given, **named)

    monkeypatch.setattr(OptimWrapper, "update_params", update_params)
    options = {"stage1.epochs": 4, "stage1.schedule": schedule, "stage1.optimizer.lr": 0.05}
    (_, record), *_ = launch(short("plain", **options))
    steps = -(-record.dataset["sizes"]["train"] // 32)
    expected = [0.05 * factor for factor in factors for _ in range(steps)]
    assert rates == pytest.approx(expected, rel=1e-6)


def test_a_clipped_gradient_moves_the_weights_no_further(
    short: Callable, launch: Callable, tmp_path: Path
) -> None:
    rate, largest = 0.05, 1e-3
    options = {
        "stage1.epochs": 1,
        "stage1.clip_grad": {"max_norm": largest},
        "stage1.optimizer.lr": rate,
        "stage1.optimizer.momentum": 0.0,
        "stage1.optimizer.weight_decay": 0.0,
    }
    experiment = short("plain", **options)
    (_, record), *_ = launch(experiment)
    start = build_model(untrained(experiment.config, tmp_path))
    trained = trained_weights(tmp_path / "here", 1)
    moved = [(trained[name] - value.detach()).double().norm() for name, value in start.named_parameters()]
    steps = -(-record.dataset["sizes"]["train"] // 32)
    # A step is no longer than rate times largest; one percent is for rounding.
    assert 0 < float(torch.stack(moved).norm()) < 1.01 * steps * rate * largest


def test_the_end_of_an_epoch_sees_the_model_as_it_is_evaluated(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In train mode, validation images would move its batch statistics."""
    seen: list[tuple[bool, bool]] = []

    def end_epoch(self, model, validation):
        seen.append((model.training, torch.is_grad_enabled()))

    monkeypatch.setattr(Plain, "end_epoch", end_epoch)
    launch(short("plain", **{"stage1.epochs": 2}))
    assert seen == [(False, False)] * 2


def test_snapshots_are_the_training_forward(short: Callable, launch: Callable, tmp_path: Path) -> None:
    """Capture changes nothing of the training; what it captures is the head's input of that epoch."""
    seen: dict[int, dict[int, torch.Tensor]] = {}
    original = StageOneLoop.run_epoch

    def run_epoch(self):
        epoch = seen.setdefault(self.epoch + 1, {})
        model = self.runner.model
        original_loss = model.objective.forward

        def forward(model, batch):
            features = model.features(batch.images)
            for index, row in zip(batch.indices.tolist(), features.detach(), strict=True):
                epoch[index] = row.clone()
            return model.objective.criterion(model.head(features), batch.labels)

        model.objective.forward = forward
        original(self)
        model.objective.forward = original_loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageOneLoop, "run_epoch", run_epoch)
        (_, record), *_ = launch(short("plain", **{"stage1.epochs": 2}))
    from lt_bench.registry import DATASETS

    data = DATASETS.build({"type": "digits_lt", "imbalance_factor": SHORT["dataset.imbalance_factor"]})
    order = torch.argsort(data.train.labels, stable=True).tolist()
    found = shards(tmp_path / "here")
    assert len(found) == 2
    for epoch, shard in enumerate(found.values(), start=1):
        for place, index in enumerate(order):
            assert torch.equal(shard["features"][place], seen[epoch][index])
    assert record.dataset["sizes"]["train"] == len(order)


def test_capture_at_the_end_of_an_epoch(short: Callable, launch: Callable, tmp_path: Path) -> None:
    """Eq. (2): every image, not augmented, in eval mode, by the weights of that epoch's end."""
    launch(short("plain"), folder="forward")
    launch(short("plain", **{"snapshots.capture": "epoch_end"}), folder="end")
    weights = [trained_weights(tmp_path / folder, 5) for folder in ("forward", "end")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    at_end = shards(tmp_path / "end")
    assert not torch.equal(
        at_end["epoch_0005.safetensors"]["features"],
        shards(tmp_path / "forward")["epoch_0005.safetensors"]["features"],
    )
    config = short("plain").config
    stage = untrained(config, tmp_path)
    model = build_model(stage)
    model.load_state_dict(weights[1])
    model.eval()
    with torch.no_grad():
        features = torch.cat(
            [
                model.features(batch.images)
                for batch in evaluation_loader(stage.data, config, "train", torch.device("cpu"))
            ]
        )
    order = torch.argsort(stage.data.train.labels, stable=True)
    torch.testing.assert_close(at_end["epoch_0005.safetensors"]["features"], features[order])


def test_validation_during_stage_1_changes_nothing(short: Callable, launch: Callable, tmp_path: Path) -> None:
    launch(short("plain"), folder="without")
    launch(short("plain", **{"runtime.val_interval": 2}), folder="with")
    logs = "".join(p.read_text() for p in tmp_path.glob("with/work/stage1/*/2*/*.log"))
    assert logs.count("shot/overall") == 3, "epochs 2, 4 and the last"
    one, two = (shards(tmp_path / folder) for folder in ("without", "with"))
    assert len(one) == 5 and one.keys() == two.keys()
    assert all(torch.equal(one[k]["features"], two[k]["features"]) for k in one)


def test_bf16_and_channels_last(short: Callable, launch: Callable, tmp_path: Path) -> None:
    """Close to float32 and not the same; the layout changes no more than rounding does."""
    for name, given in {
        "fp32": {},
        "channels_last": {"channels_last": True},
        "bf16": {"precision": "bf16", "channels_last": True},
    }.items():
        launch(short("plain", **{"stage1.numerics": given, "stage1.epochs": 1}), folder=name)
    exact = trained_weights(tmp_path / "fp32", 1)
    other_layout, rounded = (trained_weights(tmp_path / name, 1) for name in ("channels_last", "bf16"))
    torch.testing.assert_close(other_layout, exact, rtol=1e-3, atol=1e-4)
    assert all(value.dtype == exact[key].dtype for key, value in rounded.items())
    for key in ("backbone.layers.0.weight", "head.weight"):
        apart = float((rounded[key] - exact[key]).norm() / exact[key].norm())
        assert 1e-5 < apart < 0.1, key


@pytest.mark.parametrize("keep", [2, "all"])
def test_store_keeps_what_it_is_told(short: Callable, launch: Callable, tmp_path: Path, keep) -> None:
    launch(short("plain", **{"snapshots.keep": keep}))
    assert len(shards(tmp_path / "here")) == (5 if keep == "all" else 2)


def test_mmpretrain_backbone_and_resnet10(short: Callable, launch: Callable, tmp_path: Path) -> None:
    backbones = {
        "mmpretrain.ResNet": {"type": "mmpretrain.ResNet", "depth": 18, "in_channels": 1},
        "resnet10": {"type": "resnet10", "in_channels": 1},
    }
    for name, backbone in backbones.items():
        model = {"backbone": backbone, "feature_dim": 512}
        experiment = short("plain", **{"stage1.epochs": 1})
        experiment.config["model"] = model
        (_, record), *_ = launch(experiment, folder=name)
        assert record.scores.overall > 0
    experiment.config["model"] = {"backbone": backbones["mmpretrain.ResNet"]}
    with pytest.raises(LTBenchError, match=r"model\.feature_dim is missing"):
        launch(experiment, folder="no dim")


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes(short: Callable, launch: Callable, tmp_path: Path) -> None:
    """Two ranks on gloo: every sample is captured once, and one record is written."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no distributed package")
    options = {**SHORT, "stage1.epochs": 3, "stage1.batch_size": 32}
    words = [
        *("run", "digits_lt/breadcrumb_strong", "digits_lt/crt", "--launcher", "pytorch"),
        *("--work-dir", str(tmp_path / "two" / "work"), "--records", str(tmp_path / "two" / "records")),
        *("--cfg-options", *(f"{k}={v}" for k, v in options.items())),
    ]
    port = str(_port())
    ranks = []
    for rank in range(2):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-m", "lt_bench.cli", *words],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    printed = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(printed)
    assert "Overall" in printed[0] and "Overall" not in printed[1]
    (manifest,) = tmp_path.glob("two/work/stage1/*/stage1.json")
    assert json.loads(manifest.read_text())["world_size"] == 2
    assert len(list(tmp_path.glob("two/records/digits_lt/*/seed_0.json"))) == 2
    # What two ranks trained, one device goes on with.
    (_, record), *_ = launch(short("ncm", **{"stage1.epochs": 3, "stage1.batch_size": 32}), folder="two")
    assert record.scores.overall > 0
    features = shards(tmp_path / "two")["epoch_0003.safetensors"]["features"]
    assert bool((features.abs().sum(1) > 0).all())
