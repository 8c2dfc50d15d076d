"""MiSLAS against slow loops: smoothing, the two rates, and the shift of batch statistics."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.models.heads import CosineHead, ScaledHead, linear_head
from lt_bench.models.stage_one import Numerics, StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.mislas import label_aware_cross_entropy, smoothing_factors

COUNTS = [90, 40, 7, 2]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def task(counts: list[int] = COUNTS) -> Task:
    groups = torch.full((len(counts),), 2, dtype=torch.int8)
    return Task("toy", tuple(map(str, range(len(counts)))), torch.tensor(counts), "strict", groups)


def build(**options):
    return METHODS.build({"type": "mislas", "task": task(), **options})


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
def test_factors_follow_the_formula(shape: str) -> None:
    found = smoothing_factors(torch.tensor(COUNTS), 0.4, 0.1, shape)
    for j, n in enumerate(COUNTS):
        angle = math.pi * (n - 2) / (2 * (90 - 2))
        expected = {
            "concave": 0.1 + 0.3 * math.sin(angle),
            "linear": 0.1 + 0.3 * (n - 2) / (90 - 2),
            "convex": 0.4 + 0.3 * math.sin(1.5 * math.pi + angle),
        }[shape]
        assert float(found[j]) == pytest.approx(expected, rel=1e-6)
    # The most frequent class is smoothed most, the rarest least.
    assert float(found[0]) == pytest.approx(0.4) and float(found[3]) == pytest.approx(0.1)


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
def test_factors_of_equal_counts(shape: str) -> None:
    found = smoothing_factors(torch.tensor([5, 5, 5]), 0.4, 0.1, shape)
    assert found.tolist() == pytest.approx([0.4] * 3)


def oracle(logits: torch.Tensor, labels: list[int], factors: list[float]) -> float:
    total, classes = 0.0, logits.shape[1]
    for row, y in zip(logits.tolist(), labels, strict=True):
        largest = max(row)
        log_sum = largest + math.log(sum(math.exp(z - largest) for z in row))
        for j, z in enumerate(row):
            q = 1 - factors[y] if j == y else factors[y] / (classes - 1)
            total -= q * (z - log_sum)
    return total / len(labels)


def test_loss_follows_the_formula() -> None:
    logits, labels, factors = 3 * draw(6, 4), [0, 1, 2, 3, 0, 2], [0.4, 0.3, 0.15, 0.0]
    found = label_aware_cross_entropy(
        logits, torch.tensor(labels), torch.tensor(factors, dtype=torch.float64)
    )
    assert float(found) == pytest.approx(oracle(logits, labels, factors), rel=1e-12)


def test_gradient() -> None:
    labels, factors = torch.tensor([0, 3, 2]), torch.tensor([0.4, 0.3, 0.1, 0.0], dtype=torch.float64)
    logits = draw(3, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: label_aware_cross_entropy(z, labels, factors), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_input_stays_finite(dtype: torch.dtype) -> None:
    for logits in (torch.full((1, 4), 1e4), torch.tensor([[1e4, -1e4, 0.0, 0.0]] * 3)):
        logits = logits.to(dtype).requires_grad_(True)
        labels = torch.ones(len(logits), dtype=torch.int64)
        loss = label_aware_cross_entropy(logits, labels, torch.tensor([0.4, 0.3, 0.1, 0.0]))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 5, 3, 1, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Images:
    """The same few batches of off-centre images every epoch."""

    def __init__(self) -> None:
        labels = torch.randint(0, 4, (3, 8), generator=torch.Generator().manual_seed(2))
        images = 2 + 3 * draw(3, 8, 1, 4, 4, seed=9, dtype=torch.float32)
        self.batches = [Batch(x, y, torch.arange(8)) for x, y in zip(images, labels, strict=True)]

    def epoch(self, epoch: int):
        return iter(self.batches)

    def __len__(self) -> int:
        return 3


class FeaturesOf:
    def __init__(self, model: StageOneModel, images: Images) -> None:
        self.model, self.images = model, images

    def epoch(self, epoch: int):
        for batch in self.images.epoch(epoch):
            with torch.no_grad():
                features = self.model.features(batch.images)
            yield features, batch.labels


def stage(head: nn.Module | None = None) -> SimpleNamespace:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        head = head or linear_head(5, 4, 0)
        model = StageOneModel(Backbone(), head, lambda model, batch: torch.zeros(()), Numerics())
    model.eval().requires_grad_(False)
    images, asked = Images(), []

    def opened(sampler, *, batch_size, epochs):
        asked.append((dict(sampler), batch_size, epochs))
        return images

    return SimpleNamespace(
        task=task(),
        feature_dim=5,
        head=model.head,
        model=model,
        seed=7,
        epochs=3,
        device=torch.device("cpu"),
        images=opened,
        image_features=lambda *a, **k: FeaturesOf(model, opened(*a, **k)),
        model_copy=lambda: copy.deepcopy(model).requires_grad_(True),
        asked=asked,
    )


def test_batch_statistics_are_those_of_the_images_seen_and_nothing_else_moves() -> None:
    given = stage()
    before = copy.deepcopy(given.model.state_dict())
    fitted = build(recipe={"epochs": 4, "batch_size": 8, "lr": 0.05}).fit(given)
    assert given.asked == [({"type": "class_aware", "per_visit": 4}, 8, 4)]
    # The oracle: running statistics by their definition, batch after batch.
    convolution, norm = given.model.backbone.layers[0], given.model.backbone.layers[1]
    mean, var = norm.running_mean.double().clone(), norm.running_var.double().clone()
    for _ in range(4):
        for batch in Images().batches:
            x = convolution(batch.images).detach().double().transpose(0, 1).flatten(1)
            for c in range(5):
                n = x.shape[1]
                centre = sum(x[c].tolist()) / n
                spread = sum((v - centre) ** 2 for v in x[c].tolist()) / (n - 1)
                mean[c] = 0.9 * mean[c] + 0.1 * centre
                var[c] = 0.9 * var[c] + 0.1 * spread
    after = fitted.model.state_dict()
    torch.testing.assert_close(after["backbone.layers.1.running_mean"].double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after["backbone.layers.1.running_var"].double(), var, rtol=1e-4, atol=1e-5)
    for name, value in after.items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(value, before[name]), name
    for name, value in given.model.state_dict().items():
        assert torch.equal(value, before[name]), f"stage 1's own {name} moved"
    assert not any(m.training for m in fitted.model.modules()) and not fitted.head.training
    assert fitted.notes == {"batch_norm_layers_shifted": 1}


def test_statistics_can_be_kept() -> None:
    given = stage()
    before = copy.deepcopy(given.model.state_dict())
    fitted = build(shift_bn=False, recipe={"epochs": 2, "batch_size": 8}).fit(given)
    assert fitted.model is None and fitted.notes == {"batch_norm_layers_shifted": 0}
    assert all(torch.equal(v, before[k]) for k, v in given.model.state_dict().items())


def test_the_classifier_learns_at_a_fraction_of_the_rate() -> None:
    recipe = {"epochs": 2, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    method = build(head_lr_factor=0.2, recipe=recipe)
    batches = [(b.images[:, 0, 0].repeat(1, 2)[:, :5], b.labels) for b in Images().batches]
    start = linear_head(5, 4, 0)
    trainer = method.trainer(ScaledHead(copy.deepcopy(start), 4), torch.device("cpu"))
    for epoch in (1, 2):
        trainer.epoch(epoch, batches)
    # SGD with momentum by hand, in float64.
    values = [torch.ones(4), start.weight, start.bias]
    values = [v.detach().double().clone().requires_grad_(True) for v in values]
    moments = [torch.zeros_like(v) for v in values]
    for epoch in (1, 2):
        rate = 0.05 * (1 + math.cos(math.pi * (epoch - 1) / 2)) / 2
        for x, y in batches:
            s, w, b = values
            loss = label_aware_cross_entropy(s * (x.double() @ w.T + b), y, method.factors.double())
            grads = torch.autograd.grad(loss, values)
            with torch.no_grad():
                for value, moment, grad, factor in zip(values, moments, grads, (1.0, 0.2, 0.2), strict=True):
                    moment.mul_(0.9).add_(grad + 0.01 * value)
                    value -= rate * factor * moment
    found = [trainer.head.scales, trainer.head.frozen.weight, trainer.head.frozen.bias]
    for a, b in zip(found, values, strict=True):
        torch.testing.assert_close(a.detach().double(), b.detach(), rtol=1e-4, atol=1e-5)


def test_factor_0_keeps_the_classifier_and_any_head_will_do() -> None:
    head = CosineHead(5, 4, 10.0)
    before = head.weight.detach().clone()
    fitted = build(head_lr_factor=0, recipe={"epochs": 1, "batch_size": 8}).fit(stage(head))
    assert torch.equal(fitted.head.frozen.weight, before)
    assert not torch.equal(fitted.head.scales.detach(), torch.ones(4))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"smooth_head": 0.1, "smooth_tail": 0.2}, "smooth_tail <= smooth_head"),
        ({"smooth_head": 1.5}, "smooth_head <= 1"),
        ({"smooth_tail": -0.1}, "smooth_tail is a finite number from 0"),
        ({"shape": "exp"}, "concave, linear, convex"),
        ({"head_lr_factor": -1}, "head_lr_factor is a finite number from 0"),
    ],
)
def test_bad_arguments_are_told(options: dict, sentence: str) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        build(**options)


def test_end_to_end_on_the_stage_1_of_mixup(short, launch) -> None:
    options = {"stage1.epochs": 2}
    outcome = launch(short("mixup", **options), short("mislas", **options))
    (_, mixup), (_, mislas) = outcome
    assert mislas.label == "MiSLAS"
    assert mislas.stage1["identity"] == mixup.stage1["identity"]
    assert mislas.method["notes"]["batch_norm_layers_shifted"] == 3
