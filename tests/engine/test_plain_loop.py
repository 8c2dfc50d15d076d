"""Speed costs no accuracy: the harness agrees with the loop that released codes train with.

The harness runs as fast as it can (bfloat16, channels-last, augmentation by the batch); the other is
:mod:`tests.plain_loop` (fp32, NCHW, PIL images one by one). A step's gradients agree to what bfloat16 keeps.
Over a training only the mean over seeds can agree, for each draws its own order and crops.

FashionMNIST trains 4 epochs with 3 seeds; with LT_BENCH_FULL=1 its config's 30 epochs with 5.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from lt_bench.config import Experiment, load_experiment
from lt_bench.engine.data import build_data
from lt_bench.engine.stage1 import StageOne, build_model
from lt_bench.models.stage_one import Numerics, StageOneModel, build_backbone
from lt_bench.task import Task
from tests import plain_loop

FULL = os.environ.get("LT_BENCH_FULL") == "1"
DATA = Path(__file__).parents[3] / "shared" / "data"
FAST = {"precision": "bf16", "channels_last": True, "threads": 1}


class Rounded(torch.autograd.Function):
    """What passes a layer, forth and back, as bfloat16 holds it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.bfloat16().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.bfloat16().to(grad.dtype)


def resnet(numerics: Numerics) -> StageOneModel:
    """A ResNet-32 with the same initial weights every time."""
    torch.manual_seed(0)
    backbone = build_backbone({"type": "cifar_resnet", "depth": 32})
    return StageOneModel(backbone, torch.nn.Linear(64, 100), lambda model, batch: None, numerics).train()


def first_step(model: StageOneModel, dtype: torch.dtype = torch.float32) -> tuple[float, Tensor]:
    """Loss and whole gradient of a step on 128 images: a pattern for each of 100 classes, and noise."""
    draw = torch.Generator().manual_seed(1)
    labels = (100 * torch.rand(128, generator=draw) ** 3).long()  # a long tail
    patterns = F.interpolate(torch.randn(100, 3, 8, 8, generator=draw), 32, mode="bilinear")
    images = patterns[labels] + torch.randn(128, 3, 32, 32, generator=draw) / 2
    layout = torch.channels_last if model.numerics.channels_last else torch.contiguous_format
    model.backbone.to(dtype)
    loss = F.cross_entropy(model.head(model.features(images.to(dtype, memory_format=layout))), labels)
    loss.backward()
    return loss.item(), torch.cat([p.grad.double().flatten() for p in model.parameters()])


def apart(one: Tensor, two: Tensor) -> float:
    """The distance of two gradients, relative to their length."""
    return float((one - two).norm() / two.norm())


def test_channels_last_gives_the_gradients_of_nchw() -> None:
    """In float64: in float32 rounding lets a ReLU here and there decide otherwise, 0.4% of the gradient."""
    loss, plain = first_step(resnet(Numerics()), torch.float64)
    other, fast = first_step(resnet(Numerics(channels_last=True)), torch.float64)
    assert other == pytest.approx(loss, rel=1e-6) and apart(fast, plain) < 1e-5


def test_the_fast_step_is_as_near_to_fp32_as_bfloat16_can_be() -> None:
    """No further than the plain network is whose layers hand on what they have as bfloat16.

    That is a tenth of the gradient's length, at random: a ReLU whose input is near 0 decides otherwise.
    """
    loss, plain = first_step(resnet(Numerics()))
    other, fast = first_step(resnet(Numerics("bf16", channels_last=True)))
    oracle = resnet(Numerics())
    for module in oracle.backbone.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.BatchNorm2d)):
            module.register_forward_hook(lambda module, inputs, output: Rounded.apply(output))
    rounded_loss, rounded = first_step(oracle)
    assert abs(other - loss) < max(2 * abs(rounded_loss - loss), 2.0**-8 * loss)
    assert apart(fast, plain) < 1.5 * apart(rounded, plain)
    assert float(F.cosine_similarity(fast, plain, dim=0)) > 0.98


def accuracy_of_plain_loop(experiment: Experiment, seed: int, *, padding: int, flip: bool) -> float:
    """Test accuracy in % after training as released codes do."""
    config = experiment.config
    data = build_data(config["dataset"])
    stage = StageOne(Path(), "plain", config, data, Task.of(data, config["convention"]), seed)
    model = build_model(stage)
    model.numerics = Numerics()
    model = model.to(memory_format=torch.contiguous_format)
    normalize = config["train_transforms"][-1]
    size = data.train.images.shape[-1]
    given = (size, normalize["mean"], normalize["std"])
    train, test = (
        plain_loop.PILImages(split.images, split.labels, plain_loop.transform(*given, **augmentation))
        for split, augmentation in ((data.train, {"padding": padding, "flip": flip}), (data.test, {}))
    )
    # Workers would only cost here: the images are few and small.
    batches = plain_loop.loader(train, config["stage1"]["batch_size"], workers=0)
    optimiser = config["stage1"]["optimizer"]
    sgd = plain_loop.sgd(model, **{key: optimiser[key] for key in ("lr", "momentum", "weight_decay")})
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, stage.epochs)

    def network(images: Tensor) -> Tensor:
        return model.head(model.features(images))

    torch.manual_seed(1000 + seed)
    for _ in range(stage.epochs):
        model.train()
        plain_loop.train_epoch(network, batches, sgd, "cpu")
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = [
            (network(images).argmax(1) == labels).float()
            for images, labels in plain_loop.loader(test, 512, workers=0)
        ]
    return 100 * torch.cat(right).mean().item()


def assert_same_mean(one: list[float], two: list[float]) -> None:
    """No difference by Welch's test at 1%, nor one beyond twice the spread of single runs."""
    difference = abs(sum(one) / len(one) - sum(two) / len(two))
    told = f"{one} and {two}"
    assert stats.ttest_ind(one, two, equal_var=False).pvalue > 0.01, told
    assert difference < 2 * max(torch.tensor(one).std().item(), torch.tensor(two).std().item()), told


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_digits_are_learnt_as_well(launch: Callable) -> None:
    experiment = load_experiment("digits_lt/plain", {"stage1.numerics": FAST, "snapshots.keep": 0})
    seeds = tuple(range(5))
    harness = [record.scores.overall for _, record in launch(experiment, seeds=seeds)]
    plain = [accuracy_of_plain_loop(experiment, seed, padding=1, flip=False) for seed in seeds]
    assert_same_mean(harness, plain)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(not (DATA / "FashionMNIST").is_dir(), reason="Fashion-MNIST is not here")
def test_fashion_mnist_is_learnt_as_well(launch: Callable) -> None:
    epochs, seeds = (30, tuple(range(5))) if FULL else (4, tuple(range(3)))
    options = {
        "dataset.root": str(DATA),
        "stage1.numerics": FAST,
        "stage1.epochs": epochs,
        "stage1.schedule.0.T_max": epochs,
        "snapshots.keep": 0,
    }
    experiment = load_experiment("fashion_mnist_lt/plain", options)
    harness = [record.scores.overall for _, record in launch(experiment, seeds=seeds)]
    plain = [accuracy_of_plain_loop(experiment, seed, padding=2, flip=True) for seed in seeds]
    assert_same_mean(harness, plain)
