"""DisAlign against slow loops."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.models.heads import CosineHead, linear_head
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.disalign import CalibratedHead, generalised_weights

COUNTS = [90, 40, 7, 1]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    groups = torch.full((4,), 2, dtype=torch.int8)
    task = Task("toy", tuple("abcd"), torch.tensor(COUNTS), "strict", groups)
    return METHODS.build({"type": "disalign", "task": task, **options})


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.2, 10.0])
def test_weights_follow_the_formula(rho: float) -> None:
    raw = [(1 / n) ** rho for n in COUNTS]
    expected = [4 * w / sum(raw) for w in raw]
    assert generalised_weights(torch.tensor(COUNTS), rho).tolist() == pytest.approx(expected, rel=1e-5)


def calibrated(seed: int = 3) -> CalibratedHead:
    head = CalibratedHead(linear_head(6, 4, 0), 6, 4)
    with torch.no_grad():
        for index, parameter in enumerate(
            (head.magnitudes, head.margins, head.confidence_weight, head.confidence_bias)
        ):
            parameter.copy_(draw(*parameter.shape, seed=seed + index))
    return head


def test_head_follows_the_formula() -> None:
    head, z = calibrated(), draw(5, 6, seed=9)
    weight, bias = head.frozen.weight.tolist(), head.frozen.bias.tolist()
    v, c = head.confidence_weight.tolist(), float(head.confidence_bias)
    for i, x in enumerate(z.tolist()):
        sigma = 1 / (1 + math.exp(-sum(a * b for a, b in zip(v, x, strict=True)) - c))
        for j in range(4):
            logit = sum(a * b for a, b in zip(weight[j], x, strict=True)) + bias[j]
            # The paper's magnitude is 1 more than what is learned.
            alpha, beta = 1 + float(head.magnitudes[j]), float(head.margins[j])
            expected = sigma * (alpha * logit + beta) + (1 - sigma) * logit
            assert float(head(z)[i, j].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_gradient() -> None:
    head, z = calibrated().double(), draw(3, 6, dtype=torch.float64).requires_grad_(True)
    learned = [p for p in head.parameters() if p.requires_grad]
    assert len(learned) == 4
    assert torch.autograd.gradcheck(lambda x, *_: head(x), (z, *learned))


def test_calibration_starts_as_stage_1() -> None:
    frozen, z = linear_head(6, 4, 0), draw(5, 6)
    assert torch.equal(CalibratedHead(copy.deepcopy(frozen), 6, 4)(z), frozen(z))


def test_extreme_features_stay_finite() -> None:
    head = calibrated()
    for z in (1e6 * draw(3, 6), torch.zeros(1, 6)):
        out = head(z)
        torch.nn.functional.cross_entropy(out, torch.ones(len(z), dtype=torch.int64)).backward()
        assert torch.isfinite(out).all()
        assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.requires_grad)


class Epochs:
    def __init__(self) -> None:
        labels = torch.randint(0, 4, (3, 8), generator=torch.Generator().manual_seed(2))
        labels[1] = 0  # a batch of one class
        self.batches = list(zip(draw(3, 8, 6, seed=1), labels, strict=True))

    def epoch(self, epoch: int):
        return iter(self.batches)


def stage(head: torch.nn.Module) -> SimpleNamespace:
    asked: list = []

    def image_features(sampler, *, batch_size, epochs):
        asked.append((dict(sampler), batch_size, epochs))
        return Epochs()

    return SimpleNamespace(
        head=head.requires_grad_(False),
        device=torch.device("cpu"),
        feature_dim=6,
        seed=0,
        image_features=image_features,
        asked=asked,
    )


def test_training_is_sgd_on_the_reweighted_loss_with_the_classifier_frozen() -> None:
    given = stage(linear_head(6, 4, 0))
    before = copy.deepcopy(given.head.state_dict())
    recipe = {"epochs": 2, "batch_size": 8, "lr": 0.2, "momentum": 0.9, "weight_decay": 0.01}
    method = build(rho=0.7, recipe=recipe)
    fitted = method.fit(given)
    assert given.asked == [({"type": "instance"}, 8, 2)]
    raw = [(1 / n) ** 0.7 for n in COUNTS]
    w, b = before["weight"].double(), before["bias"].double()
    values = [torch.zeros(4), torch.zeros(4), torch.full((6,), 0.1), torch.zeros(())]
    values = [v.double().requires_grad_(True) for v in values]
    moments = [torch.zeros_like(v) for v in values]
    for epoch in (1, 2):
        rate = 0.2 * (1 + math.cos(math.pi * (epoch - 1) / 2)) / 2
        for x, y in Epochs().batches:
            a, beta, v, c = values
            logits = x.double() @ w.T + b
            sigma = torch.sigmoid(x.double() @ v + c).unsqueeze(1)
            log_p = torch.log_softmax(sigma * ((1 + a) * logits + beta) + (1 - sigma) * logits, 1)
            loss = -sum(raw[int(k)] * log_p[i, int(k)] for i, k in enumerate(y))
            grads = torch.autograd.grad(loss / sum(raw[int(k)] for k in y), values)
            with torch.no_grad():
                for value, moment, grad in zip(values, moments, grads, strict=True):
                    moment.mul_(0.9).add_(grad + 0.01 * value)
                    value -= rate * moment
    head = fitted.head
    found = (head.magnitudes, head.margins, head.confidence_weight, head.confidence_bias)
    for got, expected in zip(found, values, strict=True):
        torch.testing.assert_close(got.detach().double(), expected.detach(), rtol=1e-3, atol=1e-5)
    for name, value in before.items():
        assert torch.equal(getattr(head.frozen, name), value)
    assert not head.training


def test_any_head_that_gives_logits_will_do() -> None:
    fitted = build(recipe={"epochs": 1, "batch_size": 8}).fit(stage(CosineHead(6, 4, 10.0)))
    assert fitted.head(draw(2, 6)).shape == (2, 4)


@pytest.mark.parametrize("rho", [-1, float("nan"), "1"])
def test_bad_rho_is_told(rho: object) -> None:
    with pytest.raises(LTBenchError, match="rho is a finite number from 0"):
        build(rho=rho)


def test_a_rho_that_leaves_a_class_no_weight_is_told() -> None:
    with pytest.raises(LTBenchError, match="rho = 40 leaves a class no weight"):
        generalised_weights(torch.tensor([90, 1]), 40.0)


def test_a_class_without_images_is_told() -> None:
    with pytest.raises(LTBenchError, match="at least one training image"):
        generalised_weights(torch.tensor([3, 0]), 1.2)


def test_end_to_end(short, launch) -> None:
    record = launch(short("disalign", **{"stage1.epochs": 2}))[0][1]
    assert record.label == "DisAlign"
