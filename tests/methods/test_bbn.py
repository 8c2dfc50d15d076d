"""BBN against plain loops."""

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
from lt_bench.models.experts import ExpertConvNet
from lt_bench.models.stage_one import Numerics, StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.bbn import bilateral_loss, cumulative_weight

C, B = 4, 5
UNIFORM = torch.tensor([0, 0, 1, 0, 1])
REVERSED = torch.tensor([3, 2, 3, 3, 0])


def bbn():
    n = torch.tensor([120, 30, 6, 1])
    task = Task("toy", tuple("abcd"), n, "strict", shot_groups(n, "strict"))
    return METHODS.build({"type": "bbn", "task": task})


def backbone() -> ExpertConvNet:
    return ExpertConvNet(1, 4, experts=2, own_blocks=1, channel_ratio=1)


def logits(batch: int = B) -> Tensor:
    return 3 * torch.randn(batch, 2, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def interleaved(uniform: Tensor, reversed_: Tensor) -> Tensor:
    return torch.stack([uniform, reversed_], 1).flatten(0, 1)


def cross_entropy(row: list[float], y: int) -> float:
    largest = max(row)
    return math.log(sum(math.exp(v - largest) for v in row)) + largest - row[y]


def oracle(z: Tensor, uniform: Tensor, reversed_: Tensor, alpha: float) -> float:
    total = 0.0
    for i in range(len(z)):
        mixed = [alpha * float(z[i, 0, j]) + (1 - alpha) * float(z[i, 1, j]) for j in range(z.shape[2])]
        total += alpha * cross_entropy(mixed, int(uniform[i]))
        total += (1 - alpha) * cross_entropy(mixed, int(reversed_[i]))
    return total / len(z)


def test_alpha_goes_from_1_towards_0() -> None:
    assert cumulative_weight(1, 200) == 1.0
    assert cumulative_weight(101, 200) == pytest.approx(0.75)
    assert cumulative_weight(200, 200) == pytest.approx(1 - (199 / 200) ** 2)
    alphas = [cumulative_weight(e, 60) for e in range(1, 61)]
    assert alphas == sorted(alphas, reverse=True) and alphas[-1] > 0
    assert cumulative_weight(1, 1) == 1.0


@pytest.mark.parametrize(("epoch", "epochs"), [(1, 200), (120, 200), (200, 200)])
def test_loss_formula_at_its_epoch(epoch: int, epochs: int) -> None:
    method = bbn()
    method.start_epoch(epoch, epochs)
    alpha = 1 - ((epoch - 1) / epochs) ** 2
    found = method.criterion(logits(), interleaved(UNIFORM, REVERSED))
    assert float(found) == pytest.approx(oracle(logits(), UNIFORM, REVERSED, alpha), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gradient(alpha: float) -> None:
    z = logits().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: bilateral_loss(v, UNIFORM, REVERSED, alpha), z)


def test_in_the_first_epoch_only_the_conventional_branch_learns() -> None:
    method, z = bbn(), logits().requires_grad_(True)
    method.start_epoch(1, 10)
    method.criterion(z, interleaved(UNIFORM, REVERSED)).backward()
    assert z.grad[:, 0].any() and not z.grad[:, 1].any()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "z",
    [
        torch.full((B, 2, C), 1e4),
        1e6 * logits().float(),
        logits(1).float(),
        logits().bfloat16(),
        torch.zeros(B, 2, C),
    ],
)
def test_extremes_are_finite(z: Tensor, alpha: float) -> None:
    z = z.clone().requires_grad_(True)
    n = len(z)
    loss = bilateral_loss(z, torch.zeros(n, dtype=torch.int64), torch.full((n,), 3), alpha)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all() and loss.dtype == torch.float32


def test_each_branch_sees_the_images_of_its_sampler() -> None:
    torch.manual_seed(0)
    method, trunk = bbn(), backbone()
    model = StageOneModel(trunk, method.build_head(trunk.feature_dim), method, Numerics()).eval()
    method.start_epoch(6, 10)
    images = torch.randn(2 * B, 1, 8, 8)
    batch = Batch(images, interleaved(UNIFORM, REVERSED), torch.arange(2 * B))
    d = 16
    conventional = model.features(images[0::2])[:, :d]
    rebalancing = model.features(images[1::2])[:, d:]
    head = model.head
    z = torch.stack(
        [conventional @ head.weight[0].T + head.bias[0], rebalancing @ head.weight[1].T + head.bias[1]], 1
    )
    expected = oracle(z.detach().double(), UNIFORM, REVERSED, 0.75)
    assert float(model(batch).detach()) == pytest.approx(expected, rel=1e-5)


def test_a_test_image_goes_through_both_branches_alike() -> None:
    torch.manual_seed(0)
    method, trunk = bbn(), backbone()
    model = StageOneModel(trunk, method.build_head(trunk.feature_dim), method, Numerics()).eval()
    images = torch.randn(3, 1, 8, 8)
    found = model(Batch(images, UNIFORM[:3], torch.arange(3)), mode="logits")
    each = model.head.experts(model.features(images))
    torch.testing.assert_close(found, 0.5 * each[:, 0] + 0.5 * each[:, 1])


def test_every_parameter_has_a_gradient() -> None:
    """What several processes want: no parameter is left out of a step."""
    torch.manual_seed(0)
    method, trunk = bbn(), backbone()
    model = StageOneModel(trunk, method.build_head(trunk.feature_dim), method, Numerics()).train()
    for epoch in (1, 5):
        method.start_epoch(epoch, 10)
        model.zero_grad(set_to_none=True)
        labels = interleaved(UNIFORM, REVERSED)
        model(Batch(torch.randn(2 * B, 1, 8, 8), labels, torch.arange(2 * B))).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_it_is_trained_on_pairs_and_not_captured_in_training() -> None:
    assert bbn().sampler == {"type": "bilateral"} and bbn().capture == "epoch_end"


def test_refuses() -> None:
    with pytest.raises(LTBenchError, match="bbn wants a backbone of 2 experts, got one of 3"):
        bbn()(SimpleNamespace(backbone=ExpertConvNet()), None)
    method = bbn()
    method.sampler = {"type": "instance"}
    with pytest.raises(LTBenchError, match="pairs of images, which sampler 'instance'"):
        method(SimpleNamespace(backbone=backbone()), None)


def test_runs_end_to_end_and_back_tracks(short: Callable, launch: Callable) -> None:
    options = {"stage1.epochs": 2}
    (_, record), *_ = launch(short("bbn", **options))
    assert record.label == "BBN" and not record.method["notes"]
    # Snapshots are of every image's own feature, from a pass of their own.
    strong = {"type": "breadcrumb", "variant": "strong", "n_b": 40}
    (_, record), *_ = launch(short("bbn", **options, **{"method.classifier": strong}), folder="there")
    assert record.method["notes"]["epochs"] == 2 and record.method["notes"]["epochs_on_trails"] == 1
