"""Loaders over image files: workers decode and augment, the device finishes the batch.

Transforms are dicts with a ``type``. Those of torchvision's v2 (``RandomResizedCrop``, ...) and
any other callable registered in TRANSFORMS work on single images in the workers, in front (a
:class:`lt_bench.data.decode_crop.DecodingTransform` first of all: it reads the file itself); batch
transforms follow and run on the device, on uint8, which is a quarter of the transfer.

What is drawn for a single image is seeded by (seed, epoch, its place in the global epoch), so it
does not depend on the number of workers or ranks, nor on where a run was resumed. Batch transforms
draw from (seed, epoch) for the global batch, of which a rank takes its share.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2_functional

from lt_bench.data.batch import Batch
from lt_bench.data.batch_transforms import BatchTransform, refuse_behind_final, refuse_random
from lt_bench.data.decode_crop import leading_decoder
from lt_bench.data.decoding import DECODE_ERRORS, in_words, of_the_disk, unreadable
from lt_bench.data.draws import ShareGenerator
from lt_bench.data.images import ImageFiles
from lt_bench.data.samplers import EpochSampler
from lt_bench.data.share import Share
from lt_bench.data.tensor_loader import as_network_input
from lt_bench.data.training_epochs import TrainingEpochs
from lt_bench.data.worker_signals import heed_only_the_parent
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS
from lt_bench.seeding import derive_seed

# What a worker is asked for: (epoch, place in the global epoch, position in the split).
Request = tuple[int, int, int]


def split_pipeline(
    transforms: Sequence[dict[str, Any]],
) -> tuple[list[Callable[[Any], Any]], list[BatchTransform]]:
    """Build a pipeline: the transforms of single images, and the batch transforms after them.

    Args:
        transforms: dicts with a ``type``: a class of ``torchvision.transforms.v2`` or a name
            in TRANSFORMS. Arguments may hold such dicts themselves, as ``RandomApply`` needs.

    Raises:
        LTBenchError: an unknown name or argument, a transform of single images behind one of
            batches, or any behind ``batch_views``.
    """
    single: list[Callable[[Any], Any]] = []
    batch: list[BatchTransform] = []
    for cfg in transforms:
        built = _build(cfg)
        if isinstance(built, BatchTransform):
            batch.append(built)
        elif batch:
            raise LTBenchError(
                f"transform {cfg['type']!r} works on single images and stands behind one of "
                "batches; put the batch_* transforms last"
            )
        else:
            single.append(built)
    refuse_behind_final(batch)
    return single, batch


def _build(cfg: dict[str, Any]) -> Any:
    if not isinstance(cfg, dict) or not isinstance(cfg.get("type"), str):
        raise LTBenchError(f"a transform is a dict with a 'type', got {cfg!r}")
    arguments = {key: _argument(value) for key, value in cfg.items() if key != "type"}
    known = getattr(v2, cfg["type"], None)
    if not (isinstance(known, type) and issubclass(known, v2.Transform)):
        return TRANSFORMS.build({"type": cfg["type"], **arguments})
    try:
        return known(**arguments)
    except (TypeError, ValueError) as error:
        raise LTBenchError(f"transform {cfg['type']!r}: {error}") from error


def _argument(value: Any) -> Any:
    if isinstance(value, dict) and "type" in value:
        return _build(value)
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return [_build(v) for v in value]
    return value


class _DecodedImages(Dataset[Any]):
    """Runs in the workers: a request becomes pixels, or a sentence that says why not."""

    def __init__(
        self, files: ImageFiles, transforms: list[Callable[[Any], Any]], seed: int, stream: str
    ) -> None:
        self._files = files
        self._decode, self._transforms = leading_decoder(transforms)
        self._seed, self._stream = int(seed), stream

    def __getitem__(self, request: Request) -> tuple[Tensor, int] | str:
        epoch, place, position = request
        path = self._files.root / self._files.paths[position]
        with _seeded(derive_seed(self._stream, self._seed, epoch, place)):
            began = torch.default_generator.get_state() if self._stream == "evaluation" else None
            try:
                image = self._decode(path)
            except DECODE_ERRORS as error:
                # Returned, not raised: a worker's exception comes back wrapped in a traceback.
                if of_the_disk(error):
                    return f"{unreadable(path, error)}, then go on with --resume"
                return (
                    f"cannot decode image {path} ({in_words(error)}); restore it, take it off the list, or "
                    "set dataset.undecodable='skip' to leave such training images out"
                )
            for transform in self._transforms:
                try:
                    image = transform(image)
                except (TypeError, ValueError, RuntimeError) as error:
                    # A transform of a person's own keeps its traceback.
                    if not isinstance(transform, v2.Transform):
                        raise
                    return (
                        f"transform {type(transform).__name__} does not take image {path} as it comes to it "
                        f"({in_words(error)}); correct the transforms, or the image"
                    )
            if began is not None and not torch.equal(torch.default_generator.get_state(), began):
                return "the transforms of an evaluation draw random numbers; keep such ones for training"
        if not isinstance(image, Tensor):
            image = v2_functional.pil_to_tensor(image)
        return image.as_subclass(Tensor), position


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that transforms draw from, and put them back afterwards."""
    # Only the CPU's generator: where CUDA is not started, torch.manual_seed notes a traceback for every
    # call, which takes longer than decoding.
    cpu = torch.default_generator
    states = random.getstate(), np.random.get_state(), cpu.get_state()
    cpu.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        cpu.set_state(states[2])


def _collate(items: list[tuple[Tensor, int] | str]) -> tuple[Tensor, Tensor] | str:
    pixels, positions = [], []
    for item in items:
        if isinstance(item, str):
            return item
        pixels.append(item[0])
        positions.append(item[1])
    shapes = sorted({tuple(image.shape) for image in pixels})
    if len(shapes) > 1:
        return (
            f"images of one batch differ in shape, {shapes[0]} and {shapes[1]}, after their "
            "transforms; end those with a crop or a resize to one size"
        )
    return torch.stack(pixels), torch.tensor(positions, dtype=torch.int64)


class _FileBatches:
    """What both loaders share: workers, and the finish of a batch on the device."""

    def __init__(
        self,
        files: ImageFiles,
        requests: Any,
        transforms: Sequence[dict[str, Any]],
        device: torch.device | str,
        seed: int,
        stream: str,
        channels_last: bool,
        workers: int,
    ) -> None:
        if workers < 0:
            raise LTBenchError(f"workers must be 0 or more, got {workers}")
        single, self.transforms = split_pipeline(transforms)
        self.dataset, self.device = files, torch.device(device)
        self.channels_last = channels_last
        self._generator = ShareGenerator(device=self.device)
        self._images = _DecodedImages(files, single, seed, stream)
        self._requested, self._workers = requests, workers
        self._batches = self._start()

    def _start(self) -> DataLoader[Any]:
        return DataLoader(
            self._images,
            batch_sampler=self._requested,
            collate_fn=_collate,
            num_workers=self._workers,
            worker_init_fn=heed_only_the_parent,
            persistent_workers=self._workers > 0,
            pin_memory=self.device.type == "cuda",
            # Without one of its own it takes a number from the global generator each epoch.
            generator=torch.Generator(),
        )

    def _finished(self, shares: Iterable[Share | None]) -> Iterator[Batch]:
        arriving, of_batches = iter(self._batches), iter(shares)
        while (held := next(arriving, None)) is not None:
            if isinstance(held, str):
                # The workers end here, by the last reference to them; left to the error's
                # traceback they would be collected in an order in which each is waited for.
                del arriving
                self._batches = self._start()
                raise LTBenchError(held)
            images, positions = held
            share = next(of_batches)
            if share is not None:
                # All of them, but for a stand-in.
                images, positions = images[: len(share.places)], positions[: len(share.places)]
            images = images.to(self.device, non_blocking=True)
            self._generator.share = share
            for transform in self.transforms:
                images = transform(images, self._generator)
            yield Batch(
                as_network_input(images, self.channels_last),
                self.dataset.labels[positions].to(self.device, non_blocking=True),
                positions.to(self.device, non_blocking=True),
                share,
            )


class _EpochRequests:
    """The batch sampler of training: this rank's share, with each image's global place.

    An empty share asks for the epoch's first image as a stand-in, for it must end in the images' shape too,
    which only an image that went through the transforms has.
    """

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler
        # Batches to leave out of the next iteration.
        self.skip = 0

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[list[Request]]:
        epoch, places = self._sampler.epoch, self._sampler.rank_places()
        order = self._sampler.epoch_indices(epoch)
        positions = order[places]
        sizes = self._sampler.rank_sizes()
        batches = list(zip(places.split(sizes), positions.split(sizes), strict=True))
        for at, images in batches[self.skip :]:
            pairs = zip(at.tolist() or [0], images.tolist() or [int(order[0])], strict=True)
            yield [(epoch, place, position) for place, position in pairs]


class _OrderedRequests:
    """The batch sampler of evaluation: the given positions in order."""

    def __init__(self, places: Tensor, batch_size: int) -> None:
        self._places, self._batch_size = places, batch_size

    def __len__(self) -> int:
        return -(-len(self._places) // self._batch_size)

    def __iter__(self) -> Iterator[list[Request]]:
        for start in range(0, len(self._places), self._batch_size):
            batch = self._places[start : start + self._batch_size].tolist()
            yield [(0, position, position) for position in batch]


class FileLoader(TrainingEpochs, _FileBatches):
    """Training batches from files; an epoch is a pure function of (seed, epoch), shared out to ranks.

    Args:
        files: the training split.
        sampler: decides the order; its epoch is the loader's.
        transforms: see the module.
        device: where the batches end up.
        seed: of the run.
        channels_last: memory layout of the images of a batch.
        workers: processes that decode; 0 decodes in this one.

    Raises:
        LTBenchError: an unknown transform, or a sampler made for another number of images; while
            iterating, an image that cannot be decoded, named by its path.
    """

    def __init__(
        self,
        files: ImageFiles,
        *,
        sampler: EpochSampler,
        transforms: Sequence[dict[str, Any]],
        device: torch.device | str,
        seed: int,
        channels_last: bool = False,
        workers: int = 0,
    ) -> None:
        TrainingEpochs.__init__(self, sampler, seed, len(files))
        self._epoch_requests = _EpochRequests(sampler)
        _FileBatches.__init__(
            self,
            files,
            self._epoch_requests,
            transforms,
            device,
            seed,
            "file augmentation",
            channels_last,
            workers,
        )

    def __iter__(self) -> Iterator[Batch]:
        place = self._begin()
        self._epoch_requests.skip = place.batches
        if self.sampler.world == 1:
            return self._finished(repeat(None))
        return self._finished(self.sampler.rank_shares(self.device)[place.batches :])


class SequentialFileLoader(_FileBatches):
    """Every image once, in order; the last batch may be short.

    Args:
        files: the split.
        transforms: see the module; none that draws belongs here.
        batch_size: images in a batch.
        device: where the batches end up.
        channels_last: memory layout of the images of a batch.
        workers: processes that decode.
        places: (m,) int64, positions to show instead of all (a rank's share of an evaluation).

    Raises:
        LTBenchError: as for :class:`FileLoader`, and a batch transform that is random.
    """

    def __init__(
        self,
        files: ImageFiles,
        *,
        transforms: Sequence[dict[str, Any]],
        batch_size: int,
        device: torch.device | str,
        channels_last: bool = False,
        workers: int = 0,
        places: Tensor | None = None,
    ) -> None:
        if batch_size < 1:
            raise LTBenchError(f"batch_size must be 1 or more, got {batch_size}")
        requests = _OrderedRequests(torch.arange(len(files)) if places is None else places.cpu(), batch_size)
        super().__init__(files, requests, transforms, device, 0, "evaluation", channels_last, workers)
        refuse_random(self.transforms)

    def __len__(self) -> int:
        """Batches."""
        return len(self._requested)

    def __iter__(self) -> Iterator[Batch]:
        return self._finished(repeat(None))
