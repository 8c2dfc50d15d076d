"""Range loss against slow loops."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.distances import pairwise_distances
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.range_loss import inter_class_margin, intra_class_range, largest_in_class

BATCHES = [
    [0, 0, 1, 2, 1, 0, 3, 1, 0],  # four, three, one and one
    [3, 3, 3, 3, 3, 3, 3, 3, 3],
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
    [5, 2, 5, 2, 2, 9, 9, 0, 5],
]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    counts = torch.tensor([9, 5, 3, 1])
    task = Task("toy", tuple("abcd"), counts, "strict", torch.full((4,), 2, dtype=torch.int8))
    return METHODS.build({"type": "range_loss", "task": task, **options})


def square(a: list[float], b: list[float]) -> float:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def members(rows: list[list[float]], labels: list[int]) -> dict[int, list[list[float]]]:
    groups: dict[int, list[list[float]]] = {}
    for row, label in zip(rows, labels, strict=True):
        groups.setdefault(label, []).append(row)
    return groups


def pair_squares(group: list[list[float]]) -> list[float]:
    found = [square(group[i], group[j]) for i in range(len(group)) for j in range(i)]
    return sorted(found, reverse=True)


def intra_terms(rows: list[list[float]], labels: list[int], k: int) -> list[float]:
    terms = []
    for group in members(rows, labels).values():
        largest = pair_squares(group)[:k]
        if largest:
            terms.append(len(largest) / sum(1 / d for d in largest))
    return terms


def inter_term(rows: list[list[float]], labels: list[int], margin: float) -> float:
    groups = list(members(rows, labels).values())
    centres = [[sum(column) / len(group) for column in zip(*group, strict=True)] for group in groups]
    nearest = [square(centres[i], centres[j]) for i in range(len(centres)) for j in range(i)]
    return max(0.0, margin - min(nearest)) if nearest else 0.0


def squares(features: torch.Tensor) -> torch.Tensor:
    return pairwise_distances(features).square()


@pytest.mark.parametrize("labels", BATCHES)
@pytest.mark.parametrize("k", [1, 2, 3, 50])
def test_intra_formula(labels: list[int], k: int) -> None:
    features = draw(9, 3)
    terms = intra_terms(features.tolist(), labels, k)
    for reduction, expected in (("sum", sum(terms)), ("mean", sum(terms) / max(len(terms), 1))):
        found = intra_class_range(squares(features), torch.tensor(labels), k, reduction)
        assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("labels", BATCHES)
def test_largest_distances_are_of_distinct_pairs(labels: list[int]) -> None:
    features = draw(9, 3)
    values, exists = largest_in_class(squares(features), torch.tensor(labels), 2)
    groups = members(features.tolist(), labels)
    for label, group in groups.items():
        row = labels.index(label)
        expected = pair_squares(group)[:2]
        assert values[row][exists[row]].tolist() == pytest.approx(expected, rel=1e-10)
        assert int(exists[row].sum()) == len(expected)
    assert int(exists.any(1).sum()) == sum(len(group) > 1 for group in groups.values())


@pytest.mark.parametrize("labels", BATCHES)
@pytest.mark.parametrize("margin", [0.1, 5.0])
def test_inter_formula(labels: list[int], margin: float) -> None:
    for factor in (0.1, 1.0):
        features = draw(9, 3) * factor
        found = inter_class_margin(features, torch.tensor(labels), margin)
        assert float(found) == pytest.approx(
            inter_term(features.tolist(), labels, margin), rel=1e-10, abs=1e-12
        )


@pytest.mark.parametrize("normalise", [True, False])
def test_gradient(normalise: bool) -> None:
    method = build(normalise=normalise, margin=50.0)
    labels = torch.tensor([0, 0, 1, 2, 1, 0])
    features = draw(6, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: method.ranges(z, labels), features)


def test_only_the_far_pairs_and_the_near_centres_pull() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    features = torch.tensor([[0.0], [1.0], [7.0], [50.0]], requires_grad=True)
    intra_class_range(squares(features), labels, 1).backward()
    # One class has pairs; its one largest distance is that of the samples 0 and 2.
    assert features.grad.flatten().tolist() == pytest.approx([-14.0, 0.0, 14.0, 0.0])


def test_margin_follows_normalisation() -> None:
    assert build().margin == 0.1 and build(normalise=False).margin == 5.0
    assert build(margin=2.0).margin == 2.0
    features, labels = draw(6, 4), torch.tensor([0, 0, 1, 2, 1, 0])
    # Normalised features: their length does not matter.
    assert float(build().ranges(features, labels)) == pytest.approx(
        float(build().ranges(9 * features, labels))
    )


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("labels", [[1], [0, 1, 2, 3], [2, 2, 2, 2], [0, 0, 1, 2]])
def test_batches_that_lack_something(labels: list[int], dtype: torch.dtype, normalise: bool) -> None:
    for scale in (0.0, 1.0, 1e4):
        features = (draw(len(labels), 5, dtype=torch.float32) * scale).to(dtype).requires_grad_(True)
        method = build(normalise=normalise)
        loss = method.ranges(features, torch.tensor(labels))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(features.grad).all()
        if len(labels) == 1:
            assert float(loss) == 0


def test_equal_features() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    method = build(normalise=False, alpha=1.0, beta=1.0, margin=5.0)
    loss = method.ranges(features, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    # No range within a class, and the whole margin between the centres.
    assert float(loss) == pytest.approx(5.0, abs=1e-6) and torch.isfinite(features.grad).all()


class Model:
    def __init__(self) -> None:
        self.backbone = torch.nn.Flatten()
        self.head = torch.nn.Linear(4, 4)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone(images)


def test_loss_is_cross_entropy_plus_the_weighted_terms() -> None:
    model, images, labels = Model(), draw(6, 1, 2, 2, dtype=torch.float32), [0, 0, 1, 2, 1, 3]
    method = build(alpha=0.7, beta=0.2, normalise=False, margin=9.0)
    z = images.flatten(1)
    p = torch.softmax(model.head(z).double(), 1)
    terms = intra_terms(z.double().tolist(), labels, 2)
    expected = -sum(math.log(float(p[i, y])) for i, y in enumerate(labels)) / 6
    expected += 0.7 * sum(terms) / len(terms) + 0.2 * inter_term(z.double().tolist(), labels, 9.0)
    found = method(model, Batch(images, torch.tensor(labels), torch.arange(6)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": -1}, "alpha is a finite number from 0"),
        ({"margin": float("nan")}, "margin is a finite number from 0"),
        ({"k": 0}, "k is a whole number from 1"),
        ({"reduction": "max"}, "'mean' or 'sum'"),
    ],
)
def test_bad_arguments_are_told(options: dict, sentence: str) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        build(**options)


def test_end_to_end(short, launch) -> None:
    record = launch(short("range_loss", **{"stage1.epochs": 2}))[0][1]
    assert record.label == "Range Loss"
