"""ResNet-10 as the long-tail literature uses it: one basic block a stage (Liu et al., OLTR, 2019).

7x7 stem, BasicBlock [1, 1, 1, 1], 512-d features after the last ReLU, fan-out normal initialisation.
mmpretrain's ResNet has no depth 10; everything but the stage depths is its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmpretrain.models.backbones.resnet import BasicBlock, ResNet

from lt_bench.registry import MODELS


@MODELS.register_module("resnet10")
class ResNet10(ResNet):
    """(B, 3, H, W) float -> a tuple with one map (B, 512, H/32, W/32)."""

    arch_settings: ClassVar[dict[int, tuple[type, tuple[int, ...]]]] = {10: (BasicBlock, (1, 1, 1, 1))}
    feature_dim = 512

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(depth=10, **kwargs)
