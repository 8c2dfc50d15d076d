"""The CIFAR ResNet with parameter-free shortcuts (He et al. 2016, section 4.2, option A).

ResNet-32 of the long-tail literature: a 3x3 stem of 16 channels, three stages of n basic blocks with
16, 32 and 64 channels, depth = 6n + 2, 64-d features after global average pooling.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.errors import LTBenchError
from lt_bench.registry import MODELS


class OptionABlock(nn.Module):
    """Two 3x3 convolutions; where the shape changes, the shortcut subsamples and pads channels with 0.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        stride: stride of the first convolution.
        last_relu: end in the activation, as every block of the paper does.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, last_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.padding = channels_out - channels_in
        self.last_relu = last_relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H/stride, W/stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride != 1 or self.padding:
            before = self.padding // 2
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride],
                (0, 0, 0, 0, before, self.padding - before),
            )
        out = out + x
        return F.relu(out, inplace=True) if self.last_relu else out


@MODELS.register_module("cifar_resnet")
class CifarResNet(nn.Module):
    """CIFAR ResNet, (B, 3, 32, 32) float -> (B, 64, 8, 8) float.

    Args:
        depth: 6n + 2: 20, 32, 44, 56, 110.
        width: channels of the first stage.
        in_channels: channels of the images.
        last_relu: the activation of the last block; off where features shall have both signs, as a
            cosine classifier wants (Gidaris and Komodakis 2018).

    Raises:
        LTBenchError: ``depth`` is not 6n + 2, or ``width`` below 1.
    """

    def __init__(
        self, depth: int = 32, width: int = 16, in_channels: int = 3, last_relu: bool = True
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise LTBenchError(f"cifar_resnet expects a depth of 6n + 2 (20, 32, 44, ...), got {depth}")
        if width < 1:
            raise LTBenchError(f"cifar_resnet's width is a whole number from 1, got {width!r}")
        blocks = (depth - 2) // 6
        self.feature_dim = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        channels = width
        for stage in range(3):
            for index in range(blocks):
                out = width * 2**stage
                last = stage == 2 and index == blocks - 1
                stride = 2 if stage and not index else 1
                layers.append(OptionABlock(channels, out, stride, last_relu or not last))
                channels = out
        self.blocks = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The last feature map, before pooling."""
        return self.blocks(F.relu(self.bn1(self.conv1(x)), inplace=True))
