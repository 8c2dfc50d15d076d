"""Backbones that mmpretrain lacks, classifier heads, and the model of stage 1."""

from lt_bench.models import experts, resnet_cifar, small_convnet  # noqa: F401  registers the backbones
