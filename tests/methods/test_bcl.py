"""BCL against its formula in plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.data.batch import Batch
from lt_bench.engine.checkpoints import latest_checkpoint
from lt_bench.engine.loop import StageOneLoop
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.models.heads import CosineHead
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.bcl import balanced_contrastive_loss

COUNTS = (500, 100, 40, 1)
CLASSES = len(COUNTS)
DIM = 6


def task(counts: tuple[int, ...] = COUNTS) -> Task:
    values = torch.tensor(counts)
    names = tuple(str(j) for j in range(len(counts)))
    return Task("toy", names, values, "strict", shot_groups(values, "strict"))


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    torch.manual_seed(0)
    return METHODS.build({"type": "bcl", "task": task(), **options})


def slow_contrast(projections: list, labels: list[int], prototypes: list, temperature: float) -> float:
    """L_BCL, anchor by anchor and class by class."""
    points = [(v, y) for v, y in zip(projections, labels, strict=True)]
    points += [(c, j) for j, c in enumerate(prototypes)]

    def similarity(a: list[float], b: list[float]) -> float:
        return math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / temperature)

    losses = []
    for i, y in enumerate(labels):
        denominator = 0.0
        for j in range(len(prototypes)):
            members = [v for k, (v, label) in enumerate(points) if label == j and k != i]
            denominator += sum(similarity(projections[i], v) for v in members) / len(members)
        positives = [v for k, (v, label) in enumerate(points) if label == y and k != i]
        logs = [math.log(similarity(projections[i], v) / denominator) for v in positives]
        losses.append(-sum(logs) / len(logs))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 0, 0, 2, 2], [3, 3], [0] * 8, [0, 1, 2, 3]])
def test_contrast_equals_the_formula(labels: list[int], temperature: float) -> None:
    points = F.normalize(draw(len(labels), DIM))
    prototypes = F.normalize(draw(CLASSES, DIM, seed=1))
    found = balanced_contrastive_loss(points, torch.tensor(labels), prototypes, temperature)
    expected = slow_contrast(points.tolist(), labels, prototypes.tolist(), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_gradients() -> None:
    labels = torch.tensor([0, 0, 1, 1, 3, 3])
    inputs = (draw(6, DIM).requires_grad_(), draw(CLASSES, DIM, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(lambda v, c: balanced_contrastive_loss(v, labels, c, 0.5), inputs)


@pytest.mark.parametrize("copies", [1, 30])
def test_class_averaging(copies: int) -> None:
    """However many there are of a class, it counts in a denominator with the mean over it."""
    prototypes = F.normalize(draw(CLASSES, DIM, seed=1))
    anchor, other = F.normalize(draw(DIM), dim=0), prototypes[1]
    points = torch.stack([anchor, *[other] * copies])
    found = balanced_contrastive_loss(points, torch.tensor([0] + [1] * copies), prototypes, 0.5)

    def term(a: Tensor, b: Tensor) -> float:
        return math.exp(float(a @ b) / 0.5)

    of_anchor = [term(anchor, c) for c in prototypes]
    of_copy = [term(other, c) for c in prototypes]
    of_copy[0] = (of_copy[0] + term(other, anchor)) / 2
    losses = [-math.log(of_anchor[0] / sum(of_anchor))] + [-math.log(of_copy[1] / sum(of_copy))] * copies
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-9)


def test_class_complement() -> None:
    """Classes outside of the batch take part through their prototypes."""
    anchor = F.normalize(draw(1, DIM))
    prototypes = F.normalize(draw(CLASSES, DIM, seed=1)).requires_grad_()
    loss = balanced_contrastive_loss(anchor, torch.tensor([0]), prototypes, 0.1)
    loss.backward()
    assert (prototypes.grad.norm(dim=1) > 0).all()
    terms = [math.exp(float(anchor[0] @ c) / 0.1) for c in prototypes.detach()]
    assert float(loss.detach()) == pytest.approx(-math.log(terms[0] / sum(terms)), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("labels", [[2], [1, 1], [0] * 6, [0, 1, 2, 3, 3, 3]])
@pytest.mark.parametrize("equal", [False, True])
def test_extremes_are_finite(labels: list[int], equal: bool, dtype: torch.dtype) -> None:
    points = F.normalize(torch.ones(len(labels), DIM) if equal else draw(len(labels), DIM, dtype=torch.float))
    points = points.to(dtype).requires_grad_()
    prototypes = F.normalize(torch.ones(CLASSES, DIM)).to(dtype).requires_grad_()
    loss = balanced_contrastive_loss(points, torch.tensor(labels), prototypes, 0.01)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert torch.isfinite(points.grad).all() and torch.isfinite(prototypes.grad).all()
    if equal:
        assert float(loss.detach()) == pytest.approx(math.log(CLASSES), rel=1e-2), "one mean a class"


def test_compensated_cross_entropy() -> None:
    logits, labels = draw(5, CLASSES), torch.tensor([0, 1, 2, 3, 3])
    expected = 0.0
    for row, y in zip(logits.tolist(), labels.tolist(), strict=True):
        terms = [math.exp(z) * n / sum(COUNTS) for z, n in zip(row, COUNTS, strict=True)]
        expected -= math.log(terms[y] / sum(terms)) / 5
    method = build()
    assert float(method.criterion(logits, labels)) == pytest.approx(expected, rel=1e-6)
    checked = logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: method.criterion(z, labels), (checked,))
    for scale in (1e4, -1e30):
        huge = (scale * logits.float()).requires_grad_()
        loss = method.criterion(huge, labels)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(huge.grad).all()
    assert method.criterion(logits.bfloat16(), labels).dtype == torch.float32


class Flat(torch.nn.Module):
    """A model whose features are the pixels."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def toy(batch: int, **options) -> tuple:
    method = build(hidden=8, out=5, **options)
    model = Flat(method.build_head(DIM))
    images = draw(batch, 3, 1, 2, DIM // 2, dtype=torch.float32)
    labels = torch.randint(0, CLASSES, (batch,), generator=torch.Generator().manual_seed(4))
    return method, model, Batch(images, labels, torch.arange(batch))


@pytest.mark.parametrize("options", [{}, {"classification_weight": 1, "contrast_weight": 0.35}])
def test_the_loss_of_a_batch(options: dict[str, float]) -> None:
    method, model, batch = toy(7, **options)
    found = float(method(model, batch).detach())
    views = [batch.images[:, v].flatten(1) for v in range(3)]
    # Batch norm takes all of views 2 and 3 in one go.
    projected = method.projection(torch.cat(views[1:]))
    prototypes = method.prototype_projection(model.head.weight)
    contrast = slow_contrast(
        projected.double().tolist(), batch.labels.tolist() * 2, prototypes.double().tolist(), 0.1
    )
    classification = float(method.criterion(model.head(views[0]), batch.labels).detach())
    weights = options or {"classification_weight": 2.0, "contrast_weight": 0.6}
    expected = weights["classification_weight"] * classification + weights["contrast_weight"] * contrast
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 9])
def test_everything_learns(batch: int) -> None:
    method, model, data = toy(batch)
    loss = method(model, data)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in [*method.named_parameters(), *model.named_parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert float(model.head.weight.grad.norm()) > 0


def test_prototypes_teach_the_classifier() -> None:
    method, model, data = toy(5, classification_weight=0.0)
    method(model, data).backward()
    assert float(model.head.weight.grad.norm()) > 0 and model.head.bias.grad.abs().sum() == 0


def test_cosine_classifier() -> None:
    method, model, data = toy(5, cosine_scale=30)
    assert isinstance(model.head, CosineHead) and model.head.scale == 30
    assert torch.isfinite(method(model, data))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"temperature": 0}, "temperature is above 0"),
        ({"temperature": math.nan}, "temperature is a finite number"),
        ({"contrast_weight": -1}, "contrast_weight is a finite number from 0"),
        ({"classification_weight": "2"}, "classification_weight is a finite number from 0"),
        ({"hidden": 0}, "hidden is a whole number from 1"),
        ({"out": 1.5}, "out is a whole number from 1"),
        ({"cosine_scale": -1}, "cosine_scale is a finite number from 0"),
        ({"task": task((3, 0))}, "at least one training image"),
    ],
)
def test_refuses(options: dict[str, object], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build(**options)


@pytest.mark.parametrize("shape", [(2, 1, 2, 3), (2, 2, 1, 2, 3)])
def test_refuses_images_without_three_views(shape: tuple[int, ...]) -> None:
    method, model, data = toy(2)
    with pytest.raises(LTBenchError, match="bcl trains on 3 views.*batch_views"):
        method(model, data._replace(images=torch.zeros(shape)))


def test_snapshots_are_taken_at_the_end_of_an_epoch() -> None:
    assert build().capture == "epoch_end"


def test_end_to_end_with_a_second_stage(short: Callable, launch: Callable) -> None:
    """Its own classifier, and one that is trained anew on the first views of the same stage 1."""
    alone = short("bcl", **{"stage1.epochs": 2})
    again = short("bcl", **{"stage1.epochs": 2, "method.classifier.type": "crt"})
    records = [r for _, r in launch(alone, replace(again, name="digits_lt/bcl_crt"))]
    assert records[0].label == "BCL" and records[0].scores != records[1].scores


def test_resumes_bit_for_bit(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = short("bcl", **{"stage1.epochs": 3})
    launch(experiment, folder="whole")

    class Killed(Exception):
        pass

    original = StageOneLoop._read

    def read(self, loss, epoch):
        if epoch == 2:
            raise Killed
        return original(self, loss, epoch)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StageOneLoop, "_read", read)
        launch(experiment, folder="halves")
    launch(experiment, folder="halves", unfinished="resume")
    states = []
    for folder in ("whole", "halves"):
        (stage,) = (tmp_path / folder / "work" / "stage1").iterdir()
        states.append(torch.load(latest_checkpoint(stage), weights_only=True)["state_dict"])
    one, two = states
    assert one.keys() == two.keys() and "objective.prototype_projection.layers.0.weight" in one
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_namespace_models_need_only_features_and_head() -> None:
    method, model, data = toy(3)
    bare = SimpleNamespace(features=model.features, head=model.head)
    assert torch.equal(method(bare, data), method(model, data))
