"""What tests of losses share: a long-tailed task, inputs at the edge, and what every loss has to stand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lt_bench.method import Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task

COUNTS = (40, 12, 7, 3, 1)
CLASSES = len(COUNTS)


def task(counts: tuple[int, ...] = COUNTS) -> Task:
    groups = torch.full((len(counts),), 2, dtype=torch.int8)
    return Task("toy", tuple("abcdefgh"[: len(counts)]), torch.tensor(counts), "strict", groups)


def build(kind: str, **options: Any) -> Any:
    """A method of the toy task."""
    return METHODS.build({"type": kind, "task": task(), **options})


def draw(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    """(shape) float64 normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


LABELS = torch.tensor([0, 0, 3, 1, 4, 0, 2, 1])

_RIGHT = torch.zeros(8, CLASSES).scatter_(1, LABELS.unsqueeze(1), 1e4)
EXTREMES: dict[str, tuple[Tensor, Tensor]] = {
    "one sample": (draw(1, CLASSES, seed=1).float(), torch.tensor([2])),
    "one sample of the class with one": (draw(1, CLASSES, seed=1).float(), torch.tensor([4])),
    "one class": (draw(6, CLASSES, seed=2).float(), torch.full((6,), 3)),
    "every sample equal": (torch.ones(8, CLASSES), LABELS),
    "huge": (draw(8, CLASSES, seed=3, spread=1e4).float(), LABELS),
    "huge and right": (_RIGHT, LABELS),
    "huge and wrong": (-_RIGHT, LABELS),
    "bfloat16": (draw(8, CLASSES, seed=4).bfloat16(), LABELS),
}
extremes = pytest.mark.parametrize(("logits", "labels"), EXTREMES.values(), ids=EXTREMES.keys())


def assert_finite(criterion: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> float:
    """The loss is a finite scalar of at least float32 with finite gradients; returns it."""
    logits = logits.clone().requires_grad_()
    loss = criterion(logits, labels)
    assert loss.shape == () and loss.dtype in (torch.float32, torch.float64)
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()
    return float(loss.detach())


def assert_gradients(criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Gradients equal finite differences in float64."""
    logits = draw(8, CLASSES, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: criterion(z, LABELS), (logits,))


def assert_reads_no_value(method: Representation) -> None:
    """The loss and its gradient need no number on the host: they run on tensors without values."""
    on_meta = copy.deepcopy(method).to("meta")
    logits = torch.empty(8, CLASSES, device="meta", requires_grad=True)
    loss = on_meta.criterion(logits, LABELS.to("meta"))
    loss.backward()
    assert loss.shape == () and loss.device.type == "meta"


def assert_nothing_to_resume(method: Representation) -> None:
    """What derives from the counts is not saved, so checkpoints are those of plain training."""
    assert not method.state_dict() and not list(method.parameters())


def log_softmax(row: list[float]) -> list[float]:
    """Of a list of floats, by the definition."""
    total = sum(math.exp(value) for value in row)
    return [value - math.log(total) for value in row]


def effective_weights(beta: float, counts: tuple[int, ...] = COUNTS) -> list[float]:
    """Weights by the effective number, which sum to C, by the definition."""
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [len(raw) * w / sum(raw) for w in raw]
