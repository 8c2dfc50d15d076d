"""SADE against plain loops: skill-diverse losses and aggregation on unlabelled images."""

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
from lt_bench.method import Features
from lt_bench.models.expert_head import ExpertHead
from lt_bench.models.experts import ExpertConvNet
from lt_bench.models.stage_one import Numerics, StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.sade import (
    aggregation_weights,
    diverse_loss,
    expert_offsets,
    reversed_by_rank,
    stability,
)

COUNTS = [30, 120, 1, 6]
C, E, B = 4, 3, 5
LABELS = torch.tensor([0, 3, 2, 0, 1])


def task(counts: list[int] = COUNTS) -> Task:
    n = torch.tensor(counts)
    return Task("toy", tuple(str(j) for j in range(len(n))), n, "strict", shot_groups(n, "strict"))


def sade(**options):
    return METHODS.build({"type": "sade", "task": task(), **options})


def logits(seed: int = 0, batch: int = B) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(batch, E, C, generator=draw, dtype=torch.float64)


def cross_entropy(row: list[float], y: int) -> float:
    largest = max(row)
    return math.log(sum(math.exp(v - largest) for v in row)) + largest - row[y]


def oracle(z: Tensor, labels: Tensor, tau: float) -> float:
    pi = [n / sum(COUNTS) for n in COUNTS]
    # By hand: 120 <-> 1 and 30 <-> 6.
    reverse = [6 / 157, 1 / 157, 120 / 157, 30 / 157]
    total = 0.0
    for i in range(len(z)):
        y = int(labels[i])
        first, second, third = (z[i, e].tolist() for e in range(E))
        total += cross_entropy(first, y)
        total += cross_entropy([v + math.log(p) for v, p in zip(second, pi, strict=True)], y)
        adjusted = [v + math.log(p) - tau * math.log(r) for v, p, r in zip(third, pi, reverse, strict=True)]
        total += cross_entropy(adjusted, y)
    return total / len(z)


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_loss_formula(tau: float) -> None:
    found = sade(tau=tau).criterion(logits(), LABELS)
    assert float(found) == pytest.approx(oracle(logits(), LABELS, tau), rel=1e-6)


def test_the_most_frequent_class_gets_the_smallest_prior() -> None:
    values = torch.tensor([0.2, 0.5, 0.1, 0.2])
    # Ascending: class 2, 0, 3 (equal to 0, behind it), 1.
    assert reversed_by_rank(values).tolist() == pytest.approx([0.2, 0.1, 0.5, 0.2])
    assert reversed_by_rank(torch.arange(6.0)).tolist() == [5, 4, 3, 2, 1, 0]
    offsets = expert_offsets(torch.tensor(COUNTS), 2.0)
    assert not offsets[0].any()
    # The inverse expert's loss takes off what the rare classes would be short of, and more.
    assert offsets[2].argmax() == 1 and offsets[2].argmin() == 2
    balanced = expert_offsets(torch.tensor([7, 7, 7]), 2.0)
    assert torch.allclose(balanced, balanced[:, :1]), "balanced counts shift no class against another"


def test_gradient() -> None:
    offsets = expert_offsets(torch.tensor(COUNTS), 2.0)
    assert torch.autograd.gradcheck(lambda v: diverse_loss(v, LABELS, offsets), logits().requires_grad_(True))


@pytest.mark.parametrize(
    ("z", "labels"),
    [
        (torch.full((2, E, C), 1e4), torch.tensor([0, 3])),
        (1e6 * logits().float(), LABELS),
        (logits(batch=1).float(), torch.tensor([2])),
        (logits().bfloat16(), LABELS),
        (logits().float(), torch.full((B,), 2)),
        (torch.zeros(B, E, C), LABELS),
    ],
)
def test_extremes_are_finite(z: Tensor, labels: Tensor) -> None:
    z = z.clone().requires_grad_(True)
    loss = sade().criterion(z, labels)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all() and loss.dtype == torch.float32


def test_forward_is_the_loss_of_each_expert() -> None:
    torch.manual_seed(0)
    method, backbone = sade(), ExpertConvNet(1, 4)
    model = StageOneModel(backbone, method.build_head(backbone.feature_dim), method, Numerics()).eval()
    batch = Batch(torch.randn(B, 1, 8, 8), LABELS, torch.arange(B))
    each = model.head.experts(model.features(batch.images)).detach().double()
    assert float(model(batch).detach()) == pytest.approx(oracle(each, LABELS, 2.0), rel=1e-5)
    assert torch.allclose(model(batch, mode="logits").double(), each.mean(1), atol=1e-5)


def test_stability_formula_and_gradient() -> None:
    draw = torch.Generator().manual_seed(1)
    views = torch.randn(6, 2, E, C, generator=draw, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64, requires_grad=True)
    total = 0.0
    for i in range(6):
        predicted = []
        for v in range(2):
            row = [
                sum(float(weights[e].detach()) * float(views[i, v, e, j]) for e in range(E)) for j in range(C)
            ]
            raised = [math.exp(x) for x in row]
            predicted.append([x / sum(raised) for x in raised])
        p, q = predicted
        dot = sum(a * b for a, b in zip(p, q, strict=True))
        total += dot / math.sqrt(sum(a * a for a in p) * sum(b * b for b in q))
    assert float(stability(views, weights).detach()) == pytest.approx(total / 6, rel=1e-9)
    assert torch.autograd.gradcheck(lambda w: stability(views, w), weights)


def stable_and_unstable(stable: int, n: int = 64) -> Tensor:
    """One expert sees both views alike, the others see noise."""
    draw = torch.Generator().manual_seed(2)
    views = 4 * torch.randn(n, 2, E, C, generator=draw)
    views[:, 1, stable] = views[:, 0, stable]
    return views


@pytest.mark.parametrize("stable", [0, 1, 2])
def test_weight_goes_to_the_stable_expert(stable: int) -> None:
    views = stable_and_unstable(stable)
    weights = aggregation_weights(views, draw=torch.Generator().manual_seed(0), batch_size=16)
    assert weights.dtype == torch.float32 and float(weights.sum()) == pytest.approx(1)
    assert int(weights.argmax()) == stable
    alike = torch.full((E,), 1 / E)
    assert float(stability(views, weights)) > float(stability(views, alike))


def test_aggregation_is_nesterovs_sgd_on_omega() -> None:
    """Steps on all images at once against the formula: momentum .9, weight decay 5e-4, from 1/3 each."""
    views, rate = stable_and_unstable(1, 16), 0.1
    found = aggregation_weights(views, draw=torch.Generator(), epochs=3, batch_size=16, lr=rate, stop=0.0)
    omega, velocity = torch.full((E,), 1 / E, dtype=torch.float64), torch.zeros(E, dtype=torch.float64)
    for _ in range(3):
        at = omega.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(-stability(views.double(), at.softmax(0)), at)
        gradient = gradient + 5e-4 * omega
        velocity = 0.9 * velocity + gradient
        omega = omega - rate * (gradient + 0.9 * velocity)
    torch.testing.assert_close(found.double(), omega.softmax(0), rtol=1e-5, atol=1e-6)


def test_aggregation_stops_once_a_weight_is_small_and_repeats() -> None:
    views = stable_and_unstable(0)
    options = {"batch_size": 8, "lr": 1.0}

    def weights(**more) -> Tensor:
        return aggregation_weights(views, draw=torch.Generator().manual_seed(0), **{**options, **more})

    assert torch.equal(weights(), weights())
    one, many = weights(epochs=1), weights(epochs=40)
    assert float(one.min()) < 0.05, "the example is over after an epoch"
    assert torch.equal(one, many)
    assert not torch.equal(weights(epochs=3, stop=0.0), one)


@pytest.mark.parametrize(
    "views",
    [torch.zeros(3, 2, E, C), torch.full((2, 2, E, C), 1e5), torch.randn(1, 2, E, C).bfloat16()],
)
def test_aggregation_of_extremes_is_finite(views: Tensor) -> None:
    with torch.no_grad():
        weights = aggregation_weights(views, draw=torch.Generator().manual_seed(0))
    assert torch.isfinite(weights).all() and float(weights.sum()) == pytest.approx(1)


def stage(head: torch.nn.Module) -> SimpleNamespace:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(C).repeat(50)
    features = torch.randn(200, 6, generator=draw)
    asked: list[tuple[str, int]] = []

    def augmented_features(split: str, views: int) -> tuple[Tensor, Tensor]:
        asked.append((split, views))
        noise = torch.randn(200, views, 6, generator=torch.Generator().manual_seed(1))
        noise[:, :, :2] = 0
        return features.unsqueeze(1) + noise, labels

    return SimpleNamespace(
        head=head,
        seed=3,
        device=torch.device("cpu"),
        features={"test": Features(features, labels)}.get,
        augmented_features=augmented_features,
        asked=asked,
    )


def test_classifier_weighs_the_experts_and_says_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    learned_from: list[Tensor] = []

    def noting(views: Tensor, **options) -> Tensor:
        learned_from.append(views)
        return aggregation_weights(views, **options)

    monkeypatch.setattr("methods.sade.aggregation_weights", noting)
    torch.manual_seed(0)
    head = ExpertHead(6, C, E)
    given = stage(head)
    method = METHODS.build({"type": "sade_aggregated", "task": task(), "batch_size": 16})
    fitted = method.fit(given)
    weights = fitted.selected["expert_weights"]
    assert given.asked == [("test", 2)]
    assert fitted.selected_on == "test" and sum(weights) == pytest.approx(1, abs=1e-5)
    z = torch.randn(7, 6)
    expected = sum(w * head.experts(z)[:, e] for e, w in enumerate(weights))
    torch.testing.assert_close(fitted.head(z), expected, rtol=1e-4, atol=1e-5)
    # Classes by training frequency are 1, 0, 3, 2; backward-50 takes floor(50 * 50^(-place / 3)) of them.
    sizes = [math.floor(50 * 50 ** (-p / 3) + 1e-6) for p in range(4)]
    assert fitted.notes["unlabelled_test_images"] == sum(sizes)
    (views,) = learned_from
    assert views.shape == (sum(sizes), 2, E, C) and sum(sizes) < 200, "of those images alone"
    # Each row is both views of one test image, and the classes are as many as the shift says.
    drawn, labels = given.augmented_features("test", 2)
    every = torch.stack([head.experts(drawn[:, view]) for view in (0, 1)], dim=1).flatten(1)
    apart, rows = torch.cdist(views.flatten(1), every, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert float(apart.detach().max()) < 1e-4 and len(rows.unique()) == sum(sizes)
    by_frequency = labels[rows].bincount()[[1, 0, 3, 2]]
    assert by_frequency.tolist() == sizes[::-1]
    assert fitted.notes["test_distribution"] == "backward-50"
    pi = [50 ** (-p / 3) for p in (2, 3, 0, 1)]
    predicted = head(given.features("test").features).argmax(1)
    share = 0.0
    for j in range(C):
        hits = [int(p) == j for p, y in zip(predicted, given.features("test").labels, strict=True) if y == j]
        share += pi[j] / sum(pi) * sum(hits) / len(hits)
    assert fitted.notes["expected_accuracy"]["experts_alike"] == pytest.approx(100 * share, abs=1e-3)


def test_weights_follow_from_the_images_alone_not_from_their_labels_in_the_subset() -> None:
    """Under the uniform distribution all images are taken, so labels can have no part."""
    torch.manual_seed(0)
    head = ExpertHead(6, C, E)
    method = METHODS.build({"type": "sade_aggregated", "task": task(), "test_distribution": "uniform"})
    first, shuffled = stage(head), stage(head)
    views = shuffled.augmented_features
    shuffled.augmented_features = lambda *a: (views(*a)[0], views(*a)[1].flip(0))
    assert method.fit(first).selected == method.fit(shuffled).selected


def test_refuses() -> None:
    with pytest.raises(LTBenchError, match="linear, cosine; got 'euclid'"):
        sade(kind="euclid")
    with pytest.raises(LTBenchError, match="tau is a finite number from 0"):
        sade(tau=-1.0)
    with pytest.raises(LTBenchError, match="sade wants a backbone of 3 experts, got one of 2"):
        sade()(SimpleNamespace(backbone=ExpertConvNet(experts=2), head=None), None)
    build = {"type": "sade_aggregated", "task": task()}
    with pytest.raises(LTBenchError, match="head of experts, got Linear"):
        METHODS.build(build).fit(stage(torch.nn.Linear(6, C)))
    with pytest.raises(LTBenchError, match="such as 'backward-50'; got 'sideways-5'"):
        METHODS.build({**build, "test_distribution": "sideways-5"})
    with pytest.raises(LTBenchError, match="batch_size is a whole number"):
        METHODS.build({**build, "batch_size": 0})
    without = stage(ExpertHead(6, C, E))
    without.augmented_features = lambda split, views: None
    with pytest.raises(LTBenchError, match="no test split"):
        METHODS.build(build).fit(without)


def test_runs_end_to_end(short: Callable, launch: Callable) -> None:
    options = {"stage1.epochs": 2}
    (_, kept), (_, weighted) = launch(short("sade", **options), short("sade_backward", **options))
    assert (kept.label, weighted.label) == ("SADE", "SADE, aggregated for backward-50")
    assert kept.protocol["selection_split"] is None
    assert weighted.protocol["selection_split"] == "test"
    assert sum(weighted.selected["expert_weights"]) == pytest.approx(1, abs=1e-5)
