"""Weight balancing against slow loops: the two losses, the radius, the projection."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from lt_bench.config import load_experiment
from lt_bench.errors import LTBenchError
from lt_bench.losses.class_weights import class_balanced_cross_entropy
from lt_bench.models.heads import CosineHead, linear_head
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.weight_balancing import balanced_binary, max_norm_radius, project_rows

COUNTS = [90, 40, 7, 1]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    groups = torch.full((4,), 2, dtype=torch.int8)
    task = Task("toy", tuple("abcd"), torch.tensor(COUNTS), "strict", groups)
    return METHODS.build({"type": "weight_balancing", "task": task, **options})


def probabilities(row: list[float]) -> list[float]:
    powers = [math.exp(z - max(row)) for z in row]
    return [p / sum(powers) for p in powers]


def test_losses_follow_the_formulas() -> None:
    logits, labels, weights = 2 * draw(6, 4), [0, 1, 2, 3, 0, 2], [0.1, 0.3, 1.0, 2.6]
    binary = softmax = 0.0
    for row, y in zip(logits.tolist(), labels, strict=True):
        p = probabilities(row)
        softmax -= weights[y] * math.log(p[y]) / 6
        for j in range(4):
            binary -= weights[y] * math.log(p[j] if j == y else 1 - p[j]) / (6 * 4)
    given = (logits, torch.tensor(labels), torch.tensor(weights, dtype=torch.float64))
    assert float(balanced_binary(*given)) == pytest.approx(binary, rel=1e-10)
    assert float(class_balanced_cross_entropy(*given)) == pytest.approx(softmax, rel=1e-10)


@pytest.mark.parametrize("loss", [balanced_binary, class_balanced_cross_entropy])
def test_gradient(loss) -> None:
    labels, weights = torch.tensor([0, 3, 2]), torch.tensor([0.1, 0.3, 1.0, 2.6], dtype=torch.float64)
    logits = draw(3, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, weights), logits)


@pytest.mark.parametrize("loss", [balanced_binary, class_balanced_cross_entropy])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_input_stays_finite(loss, dtype: torch.dtype) -> None:
    for logits in (torch.full((1, 4), 1e4), torch.tensor([[1e4, -1e4, 0.0, 0.0]] * 3)):
        logits = logits.to(dtype).requires_grad_(True)
        value = loss(logits, torch.ones(len(logits), dtype=torch.int64), torch.tensor([0.1, 0.3, 1.0, 2.6]))
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(logits.grad).all() and value > 0


@pytest.mark.parametrize("gap", [5.0, 15.0, 17.0, 20.0, 30.0, 200.0, 1e4])
def test_a_sample_far_on_the_wrong_side_has_the_formulas_loss_and_gradient(gap: float) -> None:
    """There the likeliest class's 1 - p rounds to 0 in float32."""
    logits = torch.tensor([[gap, 0.0, -1.0, -2.0]], requires_grad=True)
    exact = logits.detach().double().requires_grad_()
    loss = balanced_binary(logits, torch.tensor([1]), torch.ones(4))
    loss.backward()
    log_p = exact.log_softmax(1)[0]
    rest = [log_p[[k for k in range(4) if k != j]].logsumexp(0) for j in (0, 2, 3)]
    expected = -(log_p[1] + sum(rest)) / 4
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-3, atol=1e-6)


def test_weights_are_those_of_the_counts() -> None:
    raw = [(1 - 0.9) / (1 - 0.9**n) for n in COUNTS]
    expected = [w * 4 / sum(raw) for w in raw]
    assert build(beta=0.9).weights.tolist() == pytest.approx(expected, rel=1e-5)


def norm(row: list[float]) -> float:
    return math.sqrt(sum(v * v for v in row))


@pytest.mark.parametrize("threshold", [0.0, 0.1, 1.0])
def test_radius_and_projection(threshold: float) -> None:
    weight = draw(5, 3) * torch.tensor([[3.0], [1.0], [0.2], [0.0], [1.5]], dtype=torch.float64)
    norms = [norm(row) for row in weight.tolist()]
    expected = min(norms) + threshold * (max(norms) - min(norms))
    radius = max_norm_radius(weight, threshold)
    assert float(radius) == pytest.approx(expected, rel=1e-12)
    projected = weight.clone()
    project_rows(projected, radius)
    for before, after, length in zip(weight.tolist(), projected.tolist(), norms, strict=True):
        factor = expected / length if length > expected else 1.0
        assert after == pytest.approx([factor * v for v in before], rel=1e-12, abs=1e-300)


class Epochs:
    def __init__(self) -> None:
        self.batches = list(
            zip(
                draw(3, 8, 6, dtype=torch.float32),
                torch.randint(0, 4, (3, 8), generator=torch.Generator().manual_seed(2)),
                strict=True,
            )
        )

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


@pytest.mark.parametrize("loss", ["binary", "softmax"])
def test_training_is_projected_sgd_from_the_head_of_stage_1(loss: str) -> None:
    head = linear_head(6, 4, 0)
    with torch.no_grad():
        head.weight[0] *= 3
    before = copy.deepcopy(head.state_dict())
    given = stage(head)
    recipe = {"epochs": 2, "batch_size": 8, "lr": 0.3, "momentum": 0.9, "weight_decay": 0.01}
    method = build(loss=loss, threshold=0.5, recipe=recipe)
    fitted = method.fit(given)
    assert given.asked == [({"type": "instance"}, 8, 2)]
    # Projected SGD by hand, in float64.
    weight, bias = (before[k].double().clone().requires_grad_(True) for k in ("weight", "bias"))
    lengths = [norm(row) for row in weight.tolist()]
    radius = min(lengths) + 0.5 * (max(lengths) - min(lengths))
    moments = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for epoch in (1, 2):
        rate = 0.3 * (1 + math.cos(math.pi * (epoch - 1) / 2)) / 2
        for x, y in Epochs().batches:
            value = method.loss(x.double() @ weight.T + bias, y, method.weights.double())
            grads = torch.autograd.grad(value, (weight, bias))
            with torch.no_grad():
                for parameter, moment, grad in zip((weight, bias), moments, grads, strict=True):
                    moment.mul_(0.9).add_(grad + 0.01 * parameter)
                    parameter -= rate * moment
                for j in range(4):
                    length = norm(weight[j].tolist())
                    weight[j] *= min(1.0, radius / length)
    torch.testing.assert_close(fitted.head.weight.detach().double(), weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fitted.head.bias.detach().double(), bias.detach(), rtol=1e-4, atol=1e-5)
    assert float(fitted.head.weight.norm(dim=1).max()) <= radius * (1 + 1e-5)
    assert fitted.notes["max_norm_radius"] == pytest.approx(radius, rel=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items()), "stage 1's head moved"


def test_a_head_without_linear_rows_is_told() -> None:
    for head in (CosineHead(6, 4), torch.nn.Sequential()):
        with pytest.raises(LTBenchError, match=f"linear stage-1 head.*{type(head).__name__}"):
            build().fit(stage(head))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threshold": 1.5}, "from 0 .* to 1"),
        ({"threshold": -0.1}, "threshold is a finite number from 0"),
        ({"beta": 1.0}, "from 0 to below 1"),
        ({"loss": "focal"}, "binary, softmax"),
    ],
)
def test_bad_arguments_are_told(options: dict, sentence: str) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        build(**options)


def test_stage_1_has_the_larger_weight_decay() -> None:
    plain = load_experiment("cifar100_lt/plain_r32").config["stage1"]
    balanced = load_experiment("cifar100_lt/weight_balancing_r32").config["stage1"]
    assert balanced["optimizer"]["weight_decay"] == 5e-3 > plain["optimizer"]["weight_decay"]
    assert [part["type"] for part in balanced["schedule"]] == ["CosineAnnealingLR"]
    assert balanced["schedule"][0]["T_max"] == balanced["epochs"]


def test_its_recipe_stands_above_a_datasets() -> None:
    config = load_experiment("cifar100_lt/crt_r32", {"method.classifier.type": "weight_balancing"}).config
    recipe = config["method"]["classifier"]["recipe"]
    assert (recipe["batch_size"], recipe["lr"], recipe["weight_decay"]) == (64, 0.01, 0.1)


def test_end_to_end(short, launch) -> None:
    record = launch(short("weight_balancing", **{"stage1.epochs": 2}))[0][1]
    assert record.label == "Weight balancing"
    assert record.method["notes"]["max_norm_radius"] > 0
