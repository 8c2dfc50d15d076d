"""A small convolutional network for images of a few pixels, such as the 8x8 digits."""

from __future__ import annotations

from torch import Tensor, nn

from lt_bench.errors import LTBenchError
from lt_bench.registry import MODELS


@MODELS.register_module("small_convnet")
class SmallConvNet(nn.Module):
    """Three 3x3 convolutions with batch normalisation, the last two after 2x2 subsampling.

    Args:
        in_channels: channels of the images.
        width: channels of the first layer; the features have 4 * width dimensions.
        last_relu: the activation after the last layer; off where features shall have both signs, as a
            cosine classifier wants (Gidaris and Komodakis 2018).

    Raises:
        LTBenchError: ``width`` is below 1.
    """

    def __init__(self, in_channels: int = 1, width: int = 16, last_relu: bool = True) -> None:
        super().__init__()
        if width < 1:
            raise LTBenchError(f"small_convnet's width is a whole number from 1, got {width!r}")
        self.feature_dim = 4 * width
        layers: list[nn.Module] = []
        channels = in_channels
        for out, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            layers += [
                nn.Conv2d(channels, out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            channels = out
        self.layers = nn.Sequential(*(layers if last_relu else layers[:-1]))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * width, H/4, W/4)."""
        return self.layers(x)
