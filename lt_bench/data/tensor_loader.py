"""Loaders over images in memory: the split lies on the device, a batch is a gather there.

An epoch's order goes to the device once. After that a batch is ``index_select``, the batch
transforms and nothing that waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lt_bench.data.batch import Batch
from lt_bench.data.batch_transforms import BatchTransform, build_batch_transforms, refuse_random
from lt_bench.data.draws import ShareGenerator
from lt_bench.data.images import ImageSet
from lt_bench.data.samplers import EpochSampler
from lt_bench.data.share import Share
from lt_bench.data.training_epochs import TrainingEpochs
from lt_bench.errors import LTBenchError


class _DeviceImages:
    """What both loaders share: the split on its device and the pipeline from it to a batch."""

    def __init__(
        self,
        images: ImageSet,
        transforms: Sequence[dict[str, Any]],
        device: torch.device | str,
        channels_last: bool,
    ) -> None:
        self.dataset = images.to(device)
        self.device = self.dataset.images.device
        self.transforms: list[BatchTransform] = build_batch_transforms(transforms)
        self.channels_last = channels_last
        self._generator = ShareGenerator(device=self.device)

    def _batch(self, indices: Tensor, share: Share | None = None) -> Batch:
        images = self.dataset.images.index_select(0, indices)
        self._generator.share = share
        for transform in self.transforms:
            images = transform(images, self._generator)
        labels = self.dataset.labels.index_select(0, indices)
        return Batch(as_network_input(images, self.channels_last), labels, indices, share)


def as_network_input(images: Tensor, channels_last: bool) -> Tensor:
    """Check that a pipeline ended in float32, and lay the images out as the network wants them.

    Args:
        images: (B, C, H, W), or (B, V, C, H, W) with V views of each image.
        channels_last: NHWC memory layout of each image.

    Returns:
        The images. Those with views lie sample by sample: ``images.flatten(0, 1)`` (B * V, C, H, W) is a
        view without gaps in the layout asked for; ``images[:, v]`` has the layout's order of strides with
        gaps between samples.

    Raises:
        LTBenchError: the pipeline leaves the images in another dtype.
    """
    if images.dtype != torch.float32:
        raise LTBenchError(
            f"the transforms leave the images as {images.dtype}, a network needs float32; "
            "end them with dict(type='batch_normalize', mean=[...], std=[...])"
        )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if images.dim() == 5:
        flat = images.flatten(0, 1).contiguous(memory_format=layout)
        return flat.unflatten(0, images.shape[:2])
    return images.contiguous(memory_format=layout)


class TensorLoader(TrainingEpochs, _DeviceImages):
    """Training batches; an epoch is a pure function of (seed, epoch) on a device type, shared out to ranks.

    Args:
        images: the training split.
        sampler: decides the order; its epoch is the loader's.
        transforms: dicts of batch transforms, see :mod:`lt_bench.data.batch_transforms`.
        device: where the split is held and the batches are made.
        seed: of the run; augmentation draws from (seed, epoch) for the global batch.
        channels_last: memory layout of the images of a batch.

    Raises:
        LTBenchError: an unknown transform, or a sampler made for another number of images.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        sampler: EpochSampler,
        transforms: Sequence[dict[str, Any]],
        device: torch.device | str,
        seed: int,
        channels_last: bool = False,
    ) -> None:
        _DeviceImages.__init__(self, images, transforms, device, channels_last)
        TrainingEpochs.__init__(self, sampler, seed, len(images))

    def __iter__(self) -> Iterator[Batch]:
        place, sampler = self._begin(), self.sampler
        order = sampler.epoch_indices(sampler.epoch)[sampler.rank_places()].to(self.device)
        own = order.split(sampler.rank_sizes())
        shares = sampler.rank_shares(self.device) if sampler.world > 1 else [None] * len(own)
        for indices, share in list(zip(own, shares, strict=True))[place.batches :]:
            yield self._batch(indices, share)


class SequentialTensorLoader(_DeviceImages):
    """Every image once, in order, not augmented; the last batch may be short.

    Args:
        images: the split.
        transforms: dicts of batch transforms that draw nothing.
        batch_size: images in a batch.
        device: where the split is held and the batches are made.
        channels_last: memory layout of the images of a batch.
        places: (m,) int64, positions to show instead of all (a rank's share of an evaluation).

    Raises:
        LTBenchError: a random transform, an unknown one, or a batch size below 1.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        transforms: Sequence[dict[str, Any]],
        batch_size: int,
        device: torch.device | str,
        channels_last: bool = False,
        places: Tensor | None = None,
    ) -> None:
        super().__init__(images, transforms, device, channels_last)
        refuse_random(self.transforms)
        if batch_size < 1:
            raise LTBenchError(f"batch_size must be 1 or more, got {batch_size}")
        self.batch_size = batch_size
        own = torch.arange(len(images)) if places is None else places
        self._places = own.to(self.device)

    def __len__(self) -> int:
        """Batches."""
        return -(-len(self._places) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for indices in self._places.split(self.batch_size) if len(self._places) else ():
            yield self._batch(indices)
