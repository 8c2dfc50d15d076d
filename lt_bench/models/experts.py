"""Backbones of several experts: a shared trunk, and for each expert last layers of its own.

RIDE (Wang et al., "Long-tailed Recognition by Routing Diverse Distribution-Aware Experts", ICLR 2021)
shares the stem and the first stage of the CIFAR ResNet and gives every expert its own second and third
stage, with 3/4 of the channels (its code's ``reduce_dimension``: 24 and 48 in the place of 32 and 64).
BBN (Zhou et al., CVPR 2020) shares all but the last residual block and keeps the channels. Both are told
by how many of the last blocks are an expert's own, and by the ratio of its channels.

The output is the pooled features of all experts side by side, (B, E * d), so that whatever takes features
takes these; :class:`lt_bench.models.expert_head.ExpertHead` cuts them apart again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import is_whole
from lt_bench.errors import LTBenchError
from lt_bench.models.resnet_cifar import OptionABlock
from lt_bench.registry import MODELS


class ExpertBackbone(nn.Module):
    """A trunk and E branches; (B, channels, H, W) -> (B, E * d).

    Args:
        trunk: images (B, channels, H, W) -> the shared feature map.
        branches: E modules, the shared feature map -> (B, d, h, w).
        dim: d, channels that each branch ends in.

    Attributes:
        num_experts: E.
        feature_dim: E * d.
    """

    def __init__(self, trunk: nn.Module, branches: Sequence[nn.Module], dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.branches = nn.ModuleList(branches)
        self.num_experts = len(self.branches)
        self.feature_dim = self.num_experts * dim
        self._interleaved = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    @contextmanager
    def interleaved(self) -> Iterator[None]:
        """Within it, expert e sees images e, E + e, 2E + e, ... of a batch only.

        The output is then (B / E, E * d): row i has expert e's features of image i * E + e. The trunk runs
        once for every expert, so batch norm has statistics of each expert's images alone, as where the
        experts are trained by samplers of their own (BBN).
        """
        before, self._interleaved = self._interleaved, True
        try:
            yield
        finally:
            self._interleaved = before

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of all experts: (B, E * d), or see :meth:`interleaved`."""
        if self._interleaved:
            maps = [branch(self.trunk(x[e :: self.num_experts])) for e, branch in enumerate(self.branches)]
        else:
            shared = self.trunk(x)
            maps = [branch(shared) for branch in self.branches]
        return torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)


def expert_backbone(backbone: nn.Module, experts: int, method: str) -> ExpertBackbone:
    """``backbone``, where it is one of E experts.

    Args:
        backbone: of the model of stage 1.
        experts: E that the method wants.
        method: its name, for the sentence.

    Raises:
        LTBenchError: another backbone, or another number of experts.
    """
    if not isinstance(backbone, ExpertBackbone) or backbone.num_experts != experts:
        found = (
            f"one of {backbone.num_experts} experts"
            if isinstance(backbone, ExpertBackbone)
            else type(backbone).__name__
        )
        raise LTBenchError(
            f"{method} wants a backbone of {experts} experts, got {found}; "
            f"set model.backbone to expert_cifar_resnet or expert_convnet with experts={experts}"
        )
    return backbone


def _check(name: str, width: int, experts: int, own: int, most: int, channel_ratio: float) -> None:
    for key, value in (("width", width), ("experts", experts), ("own_blocks", own)):
        if not is_whole(value, 1):
            raise LTBenchError(f"{name}'s {key} is a whole number from 1, got {value!r}")
    if own > most:
        raise LTBenchError(f"{name} has {most} blocks that may be an expert's own, got own_blocks={own}")
    if not isinstance(channel_ratio, (int, float)) or not 0 < channel_ratio <= 1:
        raise LTBenchError(f"{name}'s channel_ratio is above 0 and at most 1, got {channel_ratio!r}")


class _Stem(nn.Module):
    """The 3x3 convolution in front of the residual blocks."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, width, H, W)."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


@MODELS.register_module("expert_cifar_resnet")
class ExpertCifarResNet(ExpertBackbone):
    """The CIFAR ResNet with experts, (B, 3, 32, 32) float -> (B, E * d) float.

    Args:
        depth: 6n + 2: 20, 32, 44, 56, 110.
        width: channels of the first stage.
        in_channels: channels of the images.
        experts: E.
        own_blocks: how many of the last of the 3n residual blocks each expert has of its own; None is 2n,
            the last two stages (RIDE), 1 is BBN's.
        channel_ratio: channels of the experts' blocks over those of the plain network, in [1/2, 1]; 3/4 is
            RIDE's, which makes d = 48, and 1 keeps d = 64.

    Raises:
        LTBenchError: ``depth`` is not 6n + 2; numbers out of range; or fewer channels where an expert
            does not begin with a stage (the shortcut could not keep its input).
    """

    def __init__(
        self,
        depth: int = 32,
        width: int = 16,
        in_channels: int = 3,
        experts: int = 3,
        own_blocks: int | None = None,
        channel_ratio: float = 0.75,
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise LTBenchError(
                f"expert_cifar_resnet expects a depth of 6n + 2 (20, 32, 44, ...), got {depth}"
            )
        blocks = (depth - 2) // 6
        own = 2 * blocks if own_blocks is None else own_blocks
        _check("expert_cifar_resnet", width, experts, own, 3 * blocks, channel_ratio)
        if channel_ratio < 0.5:
            raise LTBenchError(
                "expert_cifar_resnet's channel_ratio is from 0.5: below, a shortcut would lose channels of "
                f"its input; got {channel_ratio}"
            )
        if channel_ratio != 1 and (own % blocks or own == 3 * blocks):
            raise LTBenchError(
                "expert_cifar_resnet narrows experts that begin with its second or third stage, "
                f"own_blocks={blocks} or {2 * blocks}; got own_blocks={own} with channel_ratio="
                f"{channel_ratio}: set channel_ratio=1"
            )
        first_own = 3 * blocks - own

        def part(channels: int, start: int, stop: int, ratio: float) -> tuple[list[nn.Module], int]:
            layers: list[nn.Module] = []
            for index in range(start, stop):
                stage, within = divmod(index, blocks)
                out = round(ratio * width * 2**stage)
                layers.append(OptionABlock(channels, out, 2 if stage and not within else 1))
                channels = out
            return layers, channels

        shared, channels = part(width, 0, first_own, 1)
        branches = [part(channels, first_own, 3 * blocks, channel_ratio) for _ in range(experts)]
        super().__init__(
            nn.Sequential(_Stem(in_channels, width), *shared),
            [nn.Sequential(*layers) for layers, _ in branches],
            branches[0][1],
        )


@MODELS.register_module("expert_convnet")
class ExpertConvNet(ExpertBackbone):
    """``small_convnet`` with experts, (B, in_channels, H, W) -> (B, E * d).

    Args:
        in_channels: channels of the images.
        width: channels of the first layer; d = 4 * width * channel_ratio.
        experts: E.
        own_blocks: how many of the last of the three layers each expert has of its own.
        channel_ratio: channels of the experts' layers over those of the plain network, in (0, 1].

    Raises:
        LTBenchError: numbers out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        experts: int = 3,
        own_blocks: int = 2,
        channel_ratio: float = 0.75,
    ) -> None:
        shapes = ((width, 1), (2 * width, 2), (4 * width, 2))
        _check("expert_convnet", width, experts, own_blocks, len(shapes), channel_ratio)
        first_own = len(shapes) - own_blocks

        def part(channels: int, start: int, stop: int, ratio: float) -> tuple[list[nn.Module], int]:
            layers: list[nn.Module] = []
            for out, stride in shapes[start:stop]:
                own = round(ratio * out)
                layers += [
                    nn.Conv2d(channels, own, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(own),
                    nn.ReLU(inplace=True),
                ]
                channels = own
            return layers, channels

        shared, channels = part(in_channels, 0, first_own, 1)
        branches = [part(channels, first_own, len(shapes), channel_ratio) for _ in range(experts)]
        super().__init__(
            nn.Sequential(*shared),
            [nn.Sequential(*layers) for layers, _ in branches],
            branches[0][1],
        )
