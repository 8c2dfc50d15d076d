"""Mixup against slow loops, and its draws."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.mixing import mix, mixed_cross_entropy, mixing_coefficient
from lt_bench.registry import METHODS
from lt_bench.task import Task

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    counts = torch.tensor([9, 5, 3, 1])
    task = Task("toy", tuple("abcd"), counts, "strict", torch.full((4,), 2, dtype=torch.int8))
    return METHODS.build({"type": "mixup", "task": task, **options})


def soft_cross_entropy(logits: torch.Tensor, target: list[list[float]]) -> float:
    total = 0.0
    for row, weights in zip(logits.double().tolist(), target, strict=True):
        largest = max(row)
        log_sum = largest + math.log(sum(math.exp(z - largest) for z in row))
        total -= sum(w * (z - log_sum) for w, z in zip(weights, row, strict=True))
    return total / len(logits)


def mixed_labels(labels: list[int], partner: list[int], lam: float, classes: int) -> list[list[float]]:
    rows = []
    for i, j in enumerate(partner):
        row = [0.0] * classes
        row[labels[i]] += lam
        row[labels[j]] += 1 - lam
        rows.append(row)
    return rows


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_formula(lam: float) -> None:
    samples, logits = draw(5, 2, 3), draw(5, 4, seed=1)
    labels, partner = [0, 1, 2, 2, 3], [2, 0, 1, 3, 4]
    coefficient = torch.tensor(lam, dtype=torch.float64)
    mixed = mix(samples, torch.tensor(partner), coefficient)
    for i, j in enumerate(partner):
        for a in range(2):
            for b in range(3):
                expected = lam * float(samples[i, a, b]) + (1 - lam) * float(samples[j, a, b])
                assert float(mixed[i, a, b]) == pytest.approx(expected, rel=1e-12)
    loss = mixed_cross_entropy(logits, torch.tensor(labels), torch.tensor(partner), coefficient)
    assert float(loss) == pytest.approx(soft_cross_entropy(logits, mixed_labels(labels, partner, lam, 4)))


def test_gradient() -> None:
    labels, partner = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    lam = torch.tensor(0.3, dtype=torch.float64)
    logits = draw(3, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: mixed_cross_entropy(z, labels, partner, lam), logits)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_coefficients_are_beta_distributed(alpha: float) -> None:
    torch.manual_seed(0)
    drawn = torch.stack([mixing_coefficient(alpha, CPU) for _ in range(4000)]).double()
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_a_huge_alpha_mixes_by_halves() -> None:
    drawn = torch.stack([mixing_coefficient(1e6, CPU) for _ in range(200)])
    torch.testing.assert_close(drawn, torch.full((200,), 0.5), atol=0.01, rtol=0)


class Model:
    """Remembers what it was shown."""

    def __init__(self, size: int = 4) -> None:
        self.backbone = torch.nn.Flatten()
        self.head = torch.nn.Linear(size, 4)
        self.seen: list[torch.Tensor] = []

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return self.backbone(images)


def batch(size: int, dtype: torch.dtype = torch.float32) -> Batch:
    labels = torch.randint(0, 4, (size,), generator=torch.Generator().manual_seed(3))
    return Batch(draw(size, 1, 2, 2, dtype=dtype), labels, torch.arange(size))


def test_a_step_mixes_the_batch_with_a_permutation_of_itself_by_one_coefficient() -> None:
    model, given, method = Model(), batch(8), build()
    torch.manual_seed(5)
    loss = method(model, given)
    torch.manual_seed(5)
    lam = float(mixing_coefficient(1.0, CPU))
    partner = torch.randperm(8).tolist()
    for i, j in enumerate(partner):
        expected = lam * given.images[i].double() + (1 - lam) * given.images[j].double()
        torch.testing.assert_close(model.seen[0][i].double(), expected, rtol=1e-5, atol=1e-6)
    target = mixed_labels(given.labels.tolist(), partner, lam, 4)
    assert float(loss) == pytest.approx(
        soft_cross_entropy(model.head(model.seen[0].flatten(1)), target), rel=1e-5
    )
    again = method(model, given)
    torch.manual_seed(5)
    assert torch.equal(method(model, given), loss) and not torch.equal(again, loss)


def test_one_sample_is_mixed_with_itself() -> None:
    model, given = Model(), batch(1)
    loss = build()(model, given)
    loss.backward()
    expected = torch.nn.functional.cross_entropy(model.head(given.images.flatten(1)), given.labels)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_extreme_input_stays_finite() -> None:
    lam, partner = torch.tensor(0.4), torch.tensor([1, 0])
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], dtype=dtype, requires_grad=True)
        loss = mixed_cross_entropy(logits, torch.tensor([0, 1]), partner, lam)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(logits.grad).all() and loss.dtype == torch.float32
        # Sample i costs 0 for its own label and 2e4 for its partner's.
        assert float(loss) == pytest.approx(0.6 * 2e4, rel=1e-2)
        assert mix(logits.detach(), partner, lam).dtype == dtype


@pytest.mark.parametrize("alpha", [0, 1e-6, -1.0, float("nan"), float("inf"), "1"])
def test_bad_alpha_is_told(alpha: object) -> None:
    with pytest.raises(LTBenchError, match="alpha is a number from 0.05.*'plain'"):
        build(alpha=alpha)


def test_end_to_end_with_snapshots_of_whole_images(short, launch) -> None:
    outcome = launch(short("mixup", **{"stage1.epochs": 2}))
    record = outcome[0][1]
    assert record.label == "Mixup"
    assert build().capture == "epoch_end"
