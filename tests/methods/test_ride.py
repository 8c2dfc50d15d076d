"""RIDE against plain loops: individual losses, diversity, routing."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.losses.margins import label_aware_margins
from lt_bench.method import Features
from lt_bench.models.expert_head import ExpertHead
from lt_bench.models.experts import ExpertConvNet
from lt_bench.models.stage_one import Numerics, StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.ride import (
    RoutingHead,
    _RoutersInTraining,
    diversity,
    diversity_temperatures,
    experts_asked,
    individual_loss,
    prefix_means,
    routing_loss,
    routing_targets,
)

COUNTS = [120, 30, 6, 1]
C, E, B = 4, 3, 5


def task(counts: list[int] = COUNTS) -> Task:
    n = torch.tensor(counts)
    return Task("toy", tuple(str(j) for j in range(len(n))), n, "strict", shot_groups(n, "strict"))


def ride(**options):
    return METHODS.build({"type": "ride", "task": task(), **options})


def logits(seed: int = 0, batch: int = B, scale: float = 3.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, E, C, generator=draw, dtype=torch.float64)


LABELS = torch.tensor([0, 3, 2, 0, 1])


def softmax(row: list[float]) -> list[float]:
    largest = max(row)
    raised = [math.exp(v - largest) for v in row]
    return [v / sum(raised) for v in raised]


def class_weights(beta: float = 0.9999) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in COUNTS]
    return [C * w / sum(raw) for w in raw]


def oracle(z: Tensor, labels: Tensor, *, late: bool, ldam: bool = True, factor: float = 0.2) -> float:
    """The whole loss from the formula of the method's docstring."""
    largest = max(n**-0.25 for n in COUNTS)
    margin = [0.5 * n**-0.25 / largest for n in COUNTS]
    weight = class_weights() if late and ldam else [1.0] * C
    psi = [0.05 * C * n / sum(COUNTS) + 0.95 for n in COUNTS]
    t = [p / max(psi) for p in psi] if late else [1.0] * C
    mean_t = sum(t) / C
    total = 0.0
    for e in range(E):
        weighted, weights = 0.0, 0.0
        for i in range(len(z)):
            y = int(labels[i])
            row = z[i, e].tolist()
            if ldam:
                row[y] -= 30 * margin[y]
            weighted -= weight[y] * math.log(softmax(row)[y])
            weights += weight[y]
        total += weighted / weights
        kl = 0.0
        for i in range(len(z)):
            mean = [sum(float(z[i, k, j]) for k in range(E)) / E / t[j] for j in range(C)]
            p = softmax(mean)
            q = softmax([float(z[i, e, j]) / t[j] for j in range(C)])
            kl += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
        total -= factor * mean_t**2 * kl / len(z)
    return total


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("individual", ["ldam", "ce"])
def test_loss_formula(individual: str, late: bool) -> None:
    method, z = ride(individual=individual), logits()
    method.start_epoch(161 if late else 160, 200)
    expected = oracle(z, LABELS, late=late, ldam=individual == "ldam")
    assert float(method.criterion(z, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_reweighting_starts_after_four_fifths_of_the_epochs() -> None:
    method = ride()
    for epochs, last in ((200, 160), (60, 48), (5, 4)):
        method.start_epoch(last, epochs)
        assert not method.reweighted
        method.start_epoch(last + 1, epochs)
        assert method.reweighted
    never = ride(reweight_after=1.0)
    never.start_epoch(60, 60)
    assert not never.reweighted


def test_margins_and_temperatures_are_of_the_right_classes() -> None:
    m = label_aware_margins(torch.tensor(COUNTS), 0.5)
    assert float(m[3]) == 0.5 and m.argsort().tolist() == [0, 1, 2, 3]
    assert float(m[0]) == pytest.approx(0.5 * 120**-0.25, rel=1e-6)
    t = diversity_temperatures(torch.tensor(COUNTS), 2.0, 0.05)
    assert float(t[0]) == 2.0 and t.argsort().tolist() == [3, 2, 1, 0], "few-shot classes are the coldest"
    assert torch.equal(diversity_temperatures(torch.tensor(COUNTS), 1.0, 0.0), torch.ones(C))


def test_gradients() -> None:
    z = logits().requires_grad_(True)
    offsets, weights = torch.tensor([0.3, 0.1, 0.2, 0.5]), torch.tensor(class_weights())
    assert torch.autograd.gradcheck(lambda v: individual_loss(v, LABELS, offsets, weights), z)
    temperatures = torch.tensor([1.0, 0.9, 0.8, 0.7], dtype=torch.float64)

    # The mean has no gradient: against a divergence from a mean that is held fixed.
    def held(v: Tensor) -> Tensor:
        own = (v / temperatures).log_softmax(2)
        mean = (z.detach().mean(1, keepdim=True) / temperatures).softmax(2)
        return temperatures.mean() ** 2 * (mean * (mean.log() - own)).sum() / B

    (expected,) = torch.autograd.grad(held(z), z)
    (found,) = torch.autograd.grad(diversity(z, temperatures), z)
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(held, z)


def test_equal_experts_have_no_diversity_and_different_ones_lower_the_loss() -> None:
    same = logits()[:, :1].expand(B, E, C)
    assert float(diversity(same, torch.ones(C))) == pytest.approx(0, abs=1e-12)
    assert float(diversity(logits(), torch.ones(C))) > 0
    z = logits()
    assert float(ride().criterion(z, LABELS)) < float(ride(diversity_factor=0.0).criterion(z, LABELS))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("z", "labels"),
    [
        (torch.full((2, E, C), 1e4), torch.tensor([0, 3])),
        (1e6 * logits().float(), LABELS),
        (logits(batch=1).float(), torch.tensor([3])),
        (logits().bfloat16(), LABELS),
        (logits().float(), torch.full((B,), 2)),
        (torch.zeros(B, E, C), LABELS),
    ],
)
def test_extremes_are_finite(z: Tensor, labels: Tensor, late: bool) -> None:
    method = ride()
    method.start_epoch(2 if late else 1, 2)
    z = z.clone().requires_grad_(True)
    loss = method.criterion(z, labels)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()
    assert loss.dtype == torch.float32


def test_forward_is_the_criterion_of_every_expert_and_the_head_is_seen() -> None:
    torch.manual_seed(0)
    method = ride()
    backbone = ExpertConvNet(1, 4)
    model = StageOneModel(backbone, method.build_head(backbone.feature_dim), method, Numerics()).eval()
    batch = Batch(torch.randn(B, 1, 8, 8), LABELS, torch.arange(B))
    seen = []
    model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    loss = model(batch, mode="loss")
    assert [s.shape for s in seen] == [(B, 3 * 12)]
    expected = oracle(model.head.experts(model.features(batch.images)).detach().double(), LABELS, late=False)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(
        model(batch, mode="logits"), model.head.experts(model.features(batch.images)).mean(1)
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"individual": "focal"}, "one of ldam, ce; got 'focal'"),
        ({"experts": 1}, "whole number from 2"),
        ({"base_diversity_temperature": 0.0}, "above 0"),
        ({"reweight_factor": 1.0}, "from 0 to below 1"),
        ({"reweight_after": 1.5}, "0 to 1"),
        ({"diversity_factor": -0.2}, "diversity_factor is a finite number from 0"),
        ({"beta": 1.0}, "beta"),
    ],
)
def test_refuses(options: dict, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        ride(**options)


def test_another_backbone_is_told() -> None:
    method = ride(experts=2)
    with pytest.raises(LTBenchError, match="ride wants a backbone of 2 experts, got one of 3"):
        method(SimpleNamespace(backbone=ExpertConvNet(), head=None), None)
    with pytest.raises(LTBenchError, match="64 features are not those of 3 experts"):
        ride().build_head(64)


def test_prefix_means_and_targets() -> None:
    z = logits()
    means = prefix_means(z)
    for e in range(E):
        expected = sum(z[:, k] for k in range(e + 1)) / (e + 1)
        torch.testing.assert_close(means[:, e], expected)
    rows = [[bool(n & 4), bool(n & 2), bool(n & 1)] for n in range(8)]
    found = routing_targets(torch.tensor(rows)).tolist()
    for row, targets in zip(rows, found, strict=True):
        for e in range(2):
            assert targets[e] == (not row[e] and any(row[e + 1 :]))


def test_routing_loss_formula() -> None:
    draw = torch.Generator().manual_seed(3)
    asks = torch.randn(6, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    right = torch.rand(6, 3, generator=draw) < 0.5
    total = 0.0
    for i in range(6):
        for e in range(2):
            y = not bool(right[i, e]) and any(bool(v) for v in right[i, e + 1 :])
            sigma = 1 / (1 + math.exp(-float(asks[i, e].detach())))
            total += -100 * math.log(sigma) if y else -math.log(1 - sigma)
    assert float(routing_loss(asks, right, 100.0).detach()) == pytest.approx(total / 12, rel=1e-9)
    assert torch.autograd.gradcheck(lambda a: routing_loss(a, right, 100.0), asks)
    huge = torch.tensor([[1e6, -1e6]], requires_grad=True)
    routing_loss(huge, torch.tensor([[False, False, True]]), 100.0).backward()
    assert torch.isfinite(huge.grad).all()


def test_experts_are_asked_in_turn() -> None:
    asks = torch.tensor([[-1.0, 5.0], [1.0, -1.0], [1.0, 1.0], [0.0, 1.0]])
    assert experts_asked(asks).tolist() == [1, 2, 3, 1]


def test_routing_head_formula() -> None:
    torch.manual_seed(2)
    head = ExpertHead(6, C, E, "linear").double()
    routing = RoutingHead(head, top_choices=2, hidden=3, seed=5).double().eval()
    z = torch.randn(40, 6, dtype=torch.float64)
    found, numbers = routing(z), []
    for i in range(40):
        part = [head.experts(z[i : i + 1])[0, e].tolist() for e in range(E)]
        total, asked = part[0], 1
        for e in range(E - 1):
            feature = z[i, 2 * e : 2 * e + 2]
            feature = feature / math.sqrt(float((feature**2).sum()))
            layer = routing.hidden[e]
            hidden = [
                max(0.0, float((w @ feature + b).detach()))
                for w, b in zip(layer.weight, layer.bias, strict=True)
            ]
            largest = sorted((v / asked for v in total), reverse=True)[:2]
            inputs = [*largest, *hidden]
            output = sum(
                float(w) * v for w, v in zip(routing.output.weight[0].detach(), inputs, strict=True)
            ) + float(routing.output.bias.detach())
            if output <= 0:
                break
            total = [a + b for a, b in zip(total, part[e + 1], strict=True)]
            asked += 1
        numbers.append(asked)
        assert found[i].tolist() == pytest.approx([v / asked for v in total], rel=1e-9, abs=1e-12)
    assert len(set(numbers)) > 1, "the example routes"
    # In training each number of experts answers by the mean of its logits.
    packed = _RoutersInTraining(routing)(z)
    logits = head.experts(z)
    for e in range(E):
        together = sum(logits[:, k] for k in range(e + 1))
        assert packed[:, E - 1 + e].tolist() == together.argmax(1).tolist()
    torch.testing.assert_close(packed[:, : E - 1], routing.asks(z, prefix_means(logits)))


class Epochs:
    def __init__(self, data: Features) -> None:
        self.data = data

    def epoch(self, epoch: int):
        return zip(self.data.features.split(20), self.data.labels.split(20), strict=True)


def stage(head: torch.nn.Module) -> SimpleNamespace:
    draw = torch.Generator().manual_seed(0)
    data = Features(torch.randn(60, 6, generator=draw), torch.randint(0, C, (60,), generator=draw))
    asked: list[dict] = []

    def image_features(sampler: dict, *, batch_size: int, epochs: int) -> Epochs:
        asked.append({"sampler": sampler, "batch_size": batch_size, "epochs": epochs})
        return Epochs(data)

    return SimpleNamespace(
        head=head,
        seed=1,
        device=torch.device("cpu"),
        features={"test": data}.get,
        image_features=image_features,
        asked=asked,
    )


def test_routing_is_trained_by_its_released_recipe(sgd_steps: list[list[dict]]) -> None:
    torch.manual_seed(0)
    given = stage(ExpertHead(6, C, E, "cosine"))
    METHODS.build({"type": "ride_routing", "task": task()}).fit(given)
    assert given.asked == [
        {"sampler": {"type": "class_aware", "per_visit": 1}, "batch_size": 512, "epochs": 5}
    ]
    rates = [0.01 * (1 + math.cos(math.pi * epoch / 5)) / 2 for epoch in range(5) for _ in range(3)]
    seen = [group for groups in sgd_steps for group in groups]
    assert [group["lr"] for group in seen] == pytest.approx(rates)
    assert all((group["momentum"], group["weight_decay"]) == (0.9, 5e-4) for group in seen)


def test_only_the_routing_classifiers_learn_and_the_seed_decides() -> None:
    torch.manual_seed(0)
    head = ExpertHead(6, C, E, "cosine")
    before = head.weight.detach().clone()
    build = {"type": "ride_routing", "task": task(), "recipe": {"batch_size": 20, "lr": 0.1}}
    fitted = METHODS.build(build).fit(stage(head))
    start = RoutingHead(ExpertHead(6, C, E, "cosine"), 30, 16, 0)
    assert fitted.head.top_choices == start.top_choices == C
    assert torch.equal(head.weight, before) and torch.equal(fitted.head.head.weight, before)
    assert head.weight.requires_grad, "stage 1's own head stays as it was"
    again = METHODS.build(build).fit(stage(head))
    untrained = METHODS.build({**build, "recipe": {"batch_size": 20, "lr": 0.0}}).fit(stage(head))
    assert torch.equal(fitted.head.output.weight, again.head.output.weight)
    assert not torch.equal(fitted.head.output.weight, untrained.head.output.weight)
    assert 1 <= fitted.notes["experts_asked_on_test"] <= E
    assert fitted.selected_on == "none"


def test_a_high_positive_weight_asks_more() -> None:
    torch.manual_seed(0)
    head = ExpertHead(6, C, E, "cosine")

    def asked(pos_weight: float) -> float:
        recipe = {"batch_size": 20, "lr": 0.1, "epochs": 20}
        cfg = {"type": "ride_routing", "task": task(), "recipe": recipe, "pos_weight": pos_weight}
        return METHODS.build(cfg).fit(stage(head)).notes["experts_asked_on_test"]

    assert asked(0.01) < asked(100.0)


def test_routing_refuses() -> None:
    with pytest.raises(LTBenchError, match="two or more experts, got Linear"):
        METHODS.build({"type": "ride_routing", "task": task()}).fit(stage(torch.nn.Linear(6, C)))
    with pytest.raises(LTBenchError, match="top_choices is a whole number from 1"):
        METHODS.build({"type": "ride_routing", "task": task(), "top_choices": 0})


def test_runs_end_to_end(short: Callable, launch: Callable) -> None:
    options = {"stage1.epochs": 2}
    records = launch(short("ride", **options), short("ride_routing", **options))
    assert [record.label for _, record in records] == ["RIDE (3 experts)", "RIDE (3 experts) + EA"]
    assert 1 <= records[1][1].method["notes"]["experts_asked_on_test"] <= 3
    assert records[0][1].stage1["identity"] == records[1][1].stage1["identity"], "one stage 1 for both"


def test_other_classifiers_take_the_experts_features(short: Callable, launch: Callable) -> None:
    options = {"stage1.epochs": 2, "method.classifier": {"type": "ncm"}}
    (_, record), *_ = launch(short("ride", **options))
    assert record.scores.overall > 30, "class means of untrained features tell digits apart: chance is 10"
