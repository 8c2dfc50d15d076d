"""Backbones against what the papers say of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
from lt_bench.models.resnet_cifar import CifarResNet, OptionABlock
from lt_bench.models.small_convnet import SmallConvNet
from lt_bench.models.stage_one import Numerics, StageOneModel, build_backbone


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_resnet32_is_the_paper_s() -> None:
    model = CifarResNet(32)
    # He et al. (2016), table 6: 0.46M parameters with 10 classes.
    assert parameters(model) + 64 * 10 + 10 == 464_154
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 64, 8, 8)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 31 and all(c.bias is None for c in convolutions)


def test_option_a_shortcut_has_no_weights() -> None:
    block = OptionABlock(4, 8, 2).eval()
    for module in (block.conv1, block.conv2):
        torch.nn.init.zeros_(module.weight)
    x = torch.randn(3, 4, 6, 6)
    out = block(x)
    assert torch.equal(out[:, 2:6], F.relu(x[:, :, ::2, ::2]))
    assert not out[:, :2].any() and not out[:, 6:].any()


@pytest.mark.parametrize("depth", [31, 7, 0])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(LTBenchError, match=r"6n \+ 2"):
        CifarResNet(depth)


def test_resnet10_is_one_basic_block_a_stage() -> None:
    model = build_backbone({"type": "resnet10"})
    # By hand: 9,536 (stem) + 73,984 + 230,144 + 919,040 + 3,673,088 (stages).
    assert parameters(model) == 4_905_792
    (out,) = model(torch.randn(1, 3, 64, 64))
    assert out.shape == (1, 512, 2, 2)
    assert model.conv1.kernel_size == (7, 7)


def test_small_convnet_shape() -> None:
    assert SmallConvNet(1, 16)(torch.randn(2, 1, 8, 8)).shape == (2, 64, 2, 2)


class Maps(torch.nn.Module):
    """A backbone that gives what it was made with."""

    def __init__(self, out) -> None:
        super().__init__()
        self.out = out

    def forward(self, images):
        return self.out


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: [x * 0, x]])
def test_features_are_pooled_whatever_a_backbone_returns(wrap) -> None:
    maps = torch.randn(2, 5, 3, 4)
    model = StageOneModel(Maps(wrap(maps)), torch.nn.Identity(), lambda m, b: None, Numerics())
    torch.testing.assert_close(model.features(maps), maps.mean((2, 3)))
    flat = StageOneModel(Maps(wrap(maps[..., 0, 0])), torch.nn.Identity(), lambda m, b: None, Numerics())
    assert torch.equal(flat.features(maps), maps[..., 0, 0])


def test_precision_is_checked_and_features_are_float32() -> None:
    with pytest.raises(LTBenchError, match="'fp32' or 'bf16'"):
        Numerics("fp16")
    model = StageOneModel(SmallConvNet(), torch.nn.Identity(), lambda m, b: None, Numerics("bf16", True))
    assert model.features(torch.randn(2, 1, 8, 8)).dtype == torch.float32
    weight = model.backbone.layers[3].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "cifar_resnet", "width": 0},
        {"type": "cifar_resnet", "depth": "abc"},
        {"type": "small_convnet", "width": -1},
        {"type": "small_convnet", "width": "abc"},
        {"type": "small_convnet", "in_channels": -1},
    ],
    ids=str,
)
def test_what_does_not_build_is_one_sentence(cfg: dict) -> None:
    with pytest.raises(LTBenchError, match=f"{cfg['type']}"):
        build_backbone(cfg)


def test_convolutions_of_a_run_are_exact_and_repeatable() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.allow_tf32
    with Numerics().applied():
        assert (cudnn.deterministic, cudnn.allow_tf32) == (True, False)
    assert (cudnn.deterministic, cudnn.allow_tf32) == before
