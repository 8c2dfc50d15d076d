"""One way to a loader, whether the images lie in memory or in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lt_bench.data.dataset import Split
from lt_bench.data.images import ImageSet
from lt_bench.data.samplers import EpochSampler
from lt_bench.data.tensor_loader import SequentialTensorLoader, TensorLoader

if TYPE_CHECKING:
    # It needs torchvision, seconds to import, which images in memory do without.
    from lt_bench.data.file_loader import FileLoader, SequentialFileLoader


def build_loader(
    split: Split,
    *,
    sampler: EpochSampler,
    transforms: Sequence[dict[str, Any]],
    device: torch.device | str,
    seed: int,
    channels_last: bool = False,
    workers: int = 0,
) -> TensorLoader | FileLoader:
    """A loader of training batches.

    Args:
        split: in memory (needs no workers) or in files.
        sampler: made from the labels of ``split``.
        transforms: dicts with a ``type``; for a split in memory, batch transforms only.
        device: where the batches are made.
        seed: of the run.
        channels_last: memory layout of the images of a batch.
        workers: processes that decode files.

    Raises:
        LTBenchError: a transform or sampler that does not fit.
    """
    if isinstance(split, ImageSet):
        return TensorLoader(
            split,
            sampler=sampler,
            transforms=transforms,
            device=device,
            seed=seed,
            channels_last=channels_last,
        )
    from lt_bench.data.file_loader import FileLoader

    return FileLoader(
        split,
        sampler=sampler,
        transforms=transforms,
        device=device,
        seed=seed,
        channels_last=channels_last,
        workers=workers,
    )


def build_eval_loader(
    split: Split,
    *,
    transforms: Sequence[dict[str, Any]],
    batch_size: int,
    device: torch.device | str,
    channels_last: bool = False,
    workers: int = 0,
    places: Tensor | None = None,
) -> SequentialTensorLoader | SequentialFileLoader:
    """A loader that shows every image once, in order, without augmentation.

    Args:
        split: in memory or in files.
        transforms: dicts with a ``type``, none of which draws.
        batch_size: images in a batch; the last may be short.
        device: where the batches are made.
        channels_last: memory layout of the images of a batch.
        workers: processes that decode files.
        places: (m,) int64, positions to show instead of all, such as a rank's share.

    Raises:
        LTBenchError: a transform that does not fit or draws.
    """
    if isinstance(split, ImageSet):
        return SequentialTensorLoader(
            split,
            transforms=transforms,
            batch_size=batch_size,
            device=device,
            channels_last=channels_last,
            places=places,
        )
    from lt_bench.data.file_loader import SequentialFileLoader

    return SequentialFileLoader(
        split,
        transforms=transforms,
        batch_size=batch_size,
        device=device,
        channels_last=channels_last,
        workers=workers,
        places=places,
    )
