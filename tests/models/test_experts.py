"""Backbones of several experts and their head, against plain loops and counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
from lt_bench.models.expert_head import ExpertHead
from lt_bench.models.experts import ExpertCifarResNet, ExpertConvNet, expert_backbone
from lt_bench.models.resnet_cifar import CifarResNet
from lt_bench.models.stage_one import Numerics, StageOneModel, build_backbone


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def block_parameters(channels_in: int, channels_out: int) -> int:
    return 9 * channels_in * channels_out + 9 * channels_out**2 + 4 * channels_out


def stage_parameters(channels_in: int, channels_out: int, blocks: int) -> int:
    return block_parameters(channels_in, channels_out) + (blocks - 1) * block_parameters(
        channels_out, channels_out
    )


def test_rides_resnet_32_by_hand() -> None:
    model = ExpertCifarResNet(32)
    trunk = 9 * 3 * 16 + 2 * 16 + stage_parameters(16, 16, 5)
    expert = stage_parameters(16, 24, 5) + stage_parameters(24, 48, 5)
    assert parameters(model) == trunk + 3 * expert
    assert parameters(model.trunk) == trunk
    assert model.feature_dim == 3 * 48
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 144)
    assert [len(branch) for branch in model.branches] == [10, 10, 10]
    assert [b.stride for b in model.branches[0]] == [2, 1, 1, 1, 1, 2, 1, 1, 1, 1]


def test_bbns_resnet_32_by_hand() -> None:
    model = ExpertCifarResNet(32, experts=2, own_blocks=1, channel_ratio=1)
    assert parameters(model) == parameters(CifarResNet(32)) + block_parameters(64, 64)
    assert model.feature_dim == 128
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 128)


def test_one_expert_of_full_width_is_the_plain_network() -> None:
    plain, expert = CifarResNet(14), ExpertCifarResNet(14, experts=1, own_blocks=3, channel_ratio=1)
    assert [p.shape for p in plain.parameters()] == [p.shape for p in expert.parameters()]
    with torch.no_grad():
        for mine, theirs in zip(expert.parameters(), plain.parameters(), strict=True):
            mine.copy_(theirs)
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(expert.eval()(x), plain.eval()(x).mean((2, 3)))


@pytest.mark.parametrize(
    "model",
    [ExpertConvNet(1, 8), ExpertConvNet(1, 8, experts=2, own_blocks=1, channel_ratio=1)],
)
def test_features_are_those_of_each_expert_side_by_side(model: ExpertConvNet) -> None:
    x = torch.randn(4, 1, 8, 8)
    model.eval()
    out = model(x)
    d = model.feature_dim // model.num_experts
    for e, branch in enumerate(model.branches):
        torch.testing.assert_close(out[:, e * d : (e + 1) * d], branch(model.trunk(x)).mean((2, 3)))
    assert not torch.equal(out[:, :d], out[:, d : 2 * d]), "experts start from different weights"


def test_interleaved_gives_each_expert_its_own_images_and_statistics() -> None:
    torch.manual_seed(0)
    model = ExpertConvNet(1, 4, experts=2, own_blocks=1, channel_ratio=1)
    x = torch.randn(6, 1, 8, 8)
    # Other statistics in the second expert's images show whose the batch norms are.
    x[1::2] = 5 + 3 * x[1::2]
    alone = []
    for e in range(2):
        shared = model.trunk(x[e::2])
        alone.append(model.branches[e](shared).mean((2, 3)))
    model.train()
    with model.interleaved():
        out = model(x)
    assert out.shape == (3, 2 * 16)
    torch.testing.assert_close(out, torch.cat(alone, 1))
    assert model(x).shape == (6, 32), "and only within the context"
    with pytest.raises(ZeroDivisionError), model.interleaved():
        raise ZeroDivisionError
    assert model(x).shape == (6, 32)


def test_interleaved_runs_under_the_numerics_of_stage_1() -> None:
    backbone = ExpertConvNet(1, 4, experts=2, own_blocks=1, channel_ratio=1)
    model = StageOneModel(backbone, torch.nn.Identity(), lambda m, b: None, Numerics("bf16", True))
    seen = []
    backbone.branches[1].register_forward_hook(lambda *a: seen.append(a[2].dtype))
    with backbone.interleaved():
        features = model.features(torch.randn(4, 1, 8, 8))
    assert features.dtype == torch.float32 and features.shape == (2, 32)
    assert seen == [torch.bfloat16]


def test_registered() -> None:
    assert build_backbone({"type": "expert_convnet", "experts": 4}).num_experts == 4
    assert build_backbone({"type": "expert_cifar_resnet", "depth": 8}).feature_dim == 144


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (ExpertCifarResNet, {"depth": 31}, r"6n \+ 2"),
        (ExpertCifarResNet, {"experts": 0}, "experts is a whole number from 1"),
        (ExpertCifarResNet, {"own_blocks": 16}, "15 blocks"),
        (ExpertCifarResNet, {"own_blocks": 3}, "set channel_ratio=1"),
        (ExpertCifarResNet, {"own_blocks": 15}, "set channel_ratio=1"),
        (ExpertCifarResNet, {"channel_ratio": 0}, "above 0"),
        (ExpertCifarResNet, {"channel_ratio": 0.25}, "from 0.5: below, a shortcut"),
        (ExpertCifarResNet, {"width": 0}, "width is a whole number from 1"),
        (ExpertCifarResNet, {"experts": True}, "experts is a whole number from 1"),
        (ExpertConvNet, {"width": "abc"}, "width is a whole number from 1, got 'abc'"),
        (ExpertConvNet, {"own_blocks": 4}, "3 blocks"),
        (ExpertConvNet, {"channel_ratio": 1.5}, "at most 1"),
    ],
)
def test_backbones_refuse(kind, options: dict, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        kind(**options)


def test_a_backbone_without_the_experts_is_told() -> None:
    assert expert_backbone(found := ExpertConvNet(), 3, "ride") is found
    with pytest.raises(LTBenchError, match="ride wants a backbone of 2 experts, got one of 3"):
        expert_backbone(found, 2, "ride")
    with pytest.raises(LTBenchError, match="got Linear; set model.backbone"):
        expert_backbone(torch.nn.Linear(1, 1), 2, "ride")


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_head_formula(kind: str) -> None:
    torch.manual_seed(1)
    head = ExpertHead(6, 4, 3, kind, scale=30.0).double()
    z = torch.randn(5, 6, dtype=torch.float64)
    each, mean = head.experts(z), head(z)
    for i in range(5):
        for j in range(4):
            found = []
            for e in range(3):
                w, f = head.weight[e, j].tolist(), z[i, 2 * e : 2 * e + 2].tolist()
                dot = sum(a * b for a, b in zip(w, f, strict=True))
                if kind == "cosine":
                    norms = math.sqrt(sum(a * a for a in w)) * math.sqrt(sum(b * b for b in f))
                    found.append(30 * dot / norms)
                else:
                    found.append(dot + float(head.bias[e, j].detach()))
                assert float(each[i, e, j].detach()) == pytest.approx(found[-1], rel=1e-9)
            assert float(mean[i, j].detach()) == pytest.approx(sum(found) / 3, rel=1e-9, abs=1e-12)
    assert torch.equal(head(z, each=True), each)
    assert (head.bias is None) == (kind == "cosine")


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_head_gradients(kind: str) -> None:
    head = ExpertHead(6, 4, 3, kind, scale=2.0).double()
    z = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head.experts, (z,))
    assert torch.autograd.gradcheck(lambda w: torch.func.functional_call(head, {"weight": w}, z), head.weight)


def test_hooks_on_the_head_see_the_features_of_a_loss_on_each_expert() -> None:
    head, z, seen = ExpertHead(6, 4, 3), torch.randn(5, 6), []
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    head(z, each=True)
    assert len(seen) == 1 and seen[0] is z


def test_cosine_head_is_finite_at_zero_and_huge_features() -> None:
    head = ExpertHead(6, 4, 3, "cosine")
    for features in (torch.zeros(2, 6), torch.full((1, 6), 1e18)):
        features.requires_grad_(True)
        loss = F.cross_entropy(head(features), torch.zeros(len(features), dtype=torch.int64))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(features.grad).all()
        assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((64, 10, 3), "64 features are not those of 3 experts"),
        ((6, 4, 3, "euclid"), "one of linear, cosine; got 'euclid'"),
        ((6, 4, 3, "cosine", 0.0), "scale"),
    ],
)
def test_head_refuses(arguments: tuple, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        ExpertHead(*arguments)
