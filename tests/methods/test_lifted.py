"""The lifted structure loss against slow loops."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.distances import pairwise_distances
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.lifted import lifted_structure_loss


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    counts = torch.tensor([9, 5, 3, 1])
    task = Task("toy", tuple("abcd"), counts, "strict", torch.full((4,), 2, dtype=torch.int8))
    return METHODS.build({"type": "lifted", "task": task, **options})


def distance(a: list[float], b: list[float]) -> float:
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def oracle(features: torch.Tensor, labels: list[int], margin: float) -> float:
    rows, size = features.tolist(), len(labels)
    total, pairs = 0.0, 0
    for i in range(size):
        for j in range(i + 1, size):
            if labels[i] != labels[j]:
                continue
            pairs += 1
            inner = sum(
                math.exp(margin - distance(rows[a], rows[n]))
                for a in (i, j)
                for n in range(size)
                if labels[n] != labels[a]
            )
            if inner:
                total += max(0.0, math.log(inner) + distance(rows[i], rows[j])) ** 2
    return total / (2 * pairs) if pairs else 0.0


@pytest.mark.parametrize("margin", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("labels", [[0, 0, 1, 2, 1, 0, 3], [0, 0, 0, 1, 1, 1, 1], [2, 0, 1, 2, 1, 0, 0]])
def test_formula(margin: float, labels: list[int]) -> None:
    # The factor puts some J below 0, where the hinge cuts.
    for factor in (0.3, 3.0):
        features = draw(7, 4) * factor
        found = lifted_structure_loss(features, torch.tensor(labels), margin)
        assert float(found) == pytest.approx(oracle(features, labels, margin), rel=1e-10, abs=1e-12)


def test_gradient() -> None:
    labels = torch.tensor([0, 0, 1, 2, 1, 0])
    features = draw(6, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: lifted_structure_loss(z, labels, 5.0), features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("labels", "nothing"),
    [
        ([1], True),  # one sample
        ([0, 1, 2, 3], True),  # no positive pair
        ([2, 2, 2, 2], True),  # no negative: the logarithm of an empty sum
        ([0, 0, 1, 2], False),
    ],
)
def test_batches_that_lack_something(dtype: torch.dtype, labels: list[int], nothing: bool) -> None:
    for scale in (0.0, 1.0, 1e4):
        features = (draw(len(labels), 5, dtype=torch.float32) * scale).to(dtype).requires_grad_(True)
        loss = lifted_structure_loss(features, torch.tensor(labels), 5.0)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(features.grad).all()
        if nothing:
            assert not loss.detach() and not features.grad.any()
        elif scale <= 1:
            assert loss.detach() > 0


def test_equal_features_have_a_value_and_no_gradient() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    loss = lifted_structure_loss(features, torch.tensor([0, 0, 1, 1]), 5.0)
    loss.backward()
    # All distances are 0: J = log(4 e^5).
    assert float(loss.detach()) == pytest.approx((math.log(4) + 5) ** 2 / 2, rel=1e-6)
    assert not features.grad.any()


def test_distances() -> None:
    # Near features far from the origin: an expanded square would lose them in float32.
    features = 1000 + 1e-2 * draw(5, 8, dtype=torch.float32)
    found, rows = pairwise_distances(features), features.tolist()
    for i in range(5):
        for j in range(5):
            assert float(found[i, j]) == pytest.approx(distance(rows[i], rows[j]), rel=1e-4)
    assert not found.diagonal().any()


class Model:
    def __init__(self) -> None:
        self.backbone = torch.nn.Flatten()
        self.head = torch.nn.Linear(4, 4)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone(images)


def test_loss_is_cross_entropy_plus_the_weighted_term() -> None:
    model, images, labels = Model(), draw(6, 1, 2, 2, dtype=torch.float32), torch.tensor([0, 0, 1, 2, 1, 3])
    batch = Batch(images, labels, torch.arange(6))
    z = images.flatten(1)
    p = torch.softmax(model.head(z).double(), 1)
    cross_entropy = -sum(math.log(float(p[i, y])) for i, y in enumerate(labels)) / 6
    for weight in (0.0, 0.3):
        method = build(weight=weight, margin=2.0)
        expected = cross_entropy + weight * oracle(z.double(), labels.tolist(), 2.0)
        assert float(method(model, batch)) == pytest.approx(expected, rel=1e-5)
    assert method.capture == "training_forward"


@pytest.mark.parametrize("options", [{"weight": -1}, {"weight": float("nan")}, {"margin": "5"}])
def test_bad_arguments_are_told(options: dict) -> None:
    with pytest.raises(LTBenchError, match=rf"lifted's {next(iter(options))} is a finite number from 0"):
        build(**options)


def test_end_to_end(short, launch) -> None:
    record = launch(short("lifted", **{"stage1.epochs": 2}))[0][1]
    assert record.label == "Lifted Loss"
