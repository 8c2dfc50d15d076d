"""Datasets with a long tail, samplers and the pipelines from pixels to batches.

Importing the package registers the datasets, samplers and transforms.
"""

from lt_bench.data import (  # noqa: F401  registers the datasets, samplers and transforms
    arrays,
    batch_transforms,
    bilateral_sampler,
    cifar,
    class_balanced_sampler,
    class_subset_sampler,
    color_transforms,
    cutout,
    decode_crop,
    deferred_sampler,
    digits,
    fashion_mnist,
    generated,
    image_list,
    imagenet_lt,
    inaturalist2018,
    places_lt,
    rotation,
    samplers,
    views,
)
from lt_bench.data.batch import Batch
from lt_bench.data.dataset import LongTailData
from lt_bench.data.images import ImageFiles, ImageSet
from lt_bench.data.loader import build_eval_loader, build_loader
from lt_bench.data.samplers import EpochSampler, build_sampler

__all__ = [
    "Batch",
    "EpochSampler",
    "ImageFiles",
    "ImageSet",
    "LongTailData",
    "build_eval_loader",
    "build_loader",
    "build_sampler",
]
