"""Loaders over images in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lt_bench.data.batch import Batch
from lt_bench.data.images import ImageSet
from lt_bench.data.loader import build_eval_loader, build_loader
from lt_bench.data.place import LoaderPlace
from lt_bench.data.samplers import build_sampler
from lt_bench.data.tensor_loader import SequentialTensorLoader, TensorLoader
from lt_bench.errors import LTBenchError

NORMALIZE = dict(type="batch_normalize", mean=[0.0], std=[1.0])
AUGMENT = [dict(type="batch_random_crop", padding=2), dict(type="batch_random_flip"), NORMALIZE]


def _set(n: int = 50) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(n) % 3)


def _loader(images: ImageSet, *, rank: int = 0, world: int = 1, seed: int = 0, **own: Any) -> TensorLoader:
    sampler = build_sampler(
        dict(type="instance"),
        images.labels,
        num_classes=3,
        batch_size=8,
        seed=seed,
        epochs=5,
        rank=rank,
        world=world,
    )
    options: dict[str, Any] = dict(transforms=AUGMENT, device="cpu", seed=seed) | own
    loader = build_loader(images, sampler=sampler, **options)
    assert isinstance(loader, TensorLoader)
    return loader


def _images(batches: list[Batch]) -> Tensor:
    return torch.cat([batch.images for batch in batches])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_batches_are_the_images_at_their_indices(world: int) -> None:
    images = _set()
    shown = []
    for rank in range(world):
        loader = _loader(images, rank=rank, world=world, transforms=[NORMALIZE])
        batches = list(loader)
        assert len(batches) == len(loader)
        for batch in batches:
            assert torch.equal(batch.images, images.images[batch.indices].float())
            assert torch.equal(batch.labels, images.labels[batch.indices])
            shown += batch.indices.tolist()
    assert sorted(shown) == list(range(50))


def test_an_epoch_is_pure_in_seed_epoch_and_rank() -> None:
    images = _set()
    first = _loader(images)
    epochs = []
    for epoch in range(3):
        first.set_epoch(epoch)
        epochs.append(_images(list(first)))
    resumed = _loader(images)
    resumed.set_epoch(2)
    torch.manual_seed(99)
    assert torch.equal(_images(list(resumed)), epochs[2])
    next(iter(resumed))  # an epoch that was broken off leaves no trace
    assert torch.equal(_images(list(resumed)), epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    other = _loader(images, seed=1)
    other.set_epoch(2)
    assert not torch.equal(_images(list(other)), epochs[2])


def test_augmentation_differs_between_epochs_for_the_same_image() -> None:
    images = ImageSet(_set(1).images.expand(48, 1, 6, 6).contiguous(), torch.arange(48) % 3)
    loader = _loader(images)
    first = _images(list(loader))
    loader.set_epoch(1)
    second = _images(list(loader))
    same = (first.flatten(1) == second.flatten(1)).all(1)
    assert int(same.sum()) < 10
    assert len(first.unique(dim=0)) > 20


def test_the_epoch_of_the_sampler_is_that_of_the_loader() -> None:
    loader = _loader(_set())
    loader.sampler.set_epoch(3)
    by_sampler = _images(list(loader))
    loader.set_epoch(0)
    loader.set_epoch(3)
    assert torch.equal(_images(list(loader)), by_sampler)


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_layout(channels_last: bool) -> None:
    images = ImageSet(_set().images.repeat(1, 3, 1, 1), _set().labels)
    normalize = dict(type="batch_normalize", mean=[1.0] * 3, std=[2.0] * 3)
    loader = _loader(images, transforms=[normalize], channels_last=channels_last)
    held = next(iter(loader)).images
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert held.is_contiguous(memory_format=layout)
    assert held.dtype == torch.float32


def test_evaluation_shows_all_in_order() -> None:
    images = _set()
    loader = build_eval_loader(images, transforms=[NORMALIZE], batch_size=16, device="cpu")
    batches = list(loader)
    assert [len(batch.labels) for batch in batches] == [16, 16, 16, 2]
    assert len(loader) == 4
    assert torch.equal(torch.cat([b.indices for b in batches]), torch.arange(50))
    assert torch.equal(_images(batches), images.images.float())
    assert torch.equal(_images(list(loader)), _images(batches))


def test_evaluation_of_a_share() -> None:
    images = _set()
    share = torch.arange(50)[1::3]
    loader = SequentialTensorLoader(images, transforms=[NORMALIZE], batch_size=5, device="cpu", places=share)
    assert torch.equal(torch.cat([b.indices for b in loader]), share)
    nothing = SequentialTensorLoader(
        images, transforms=[NORMALIZE], batch_size=5, device="cpu", places=share[:0]
    )
    assert list(nothing) == []
    assert len(nothing) == 0


def test_refuses_what_does_not_end_in_float() -> None:
    loader = _loader(_set(), transforms=[dict(type="batch_random_flip")])
    with pytest.raises(LTBenchError, match="leave the images as torch.uint8"):
        next(iter(loader))


def test_refuses_random_transforms_in_evaluation() -> None:
    with pytest.raises(LTBenchError, match="random"):
        build_eval_loader(_set(), transforms=AUGMENT, batch_size=4, device="cpu")


def test_refuses_a_sampler_of_another_split_and_an_empty_batch() -> None:
    loader = _loader(_set())
    with pytest.raises(LTBenchError, match="made for 50 images, the split has 40"):
        TensorLoader(_set(40), sampler=loader.sampler, transforms=AUGMENT, device="cpu", seed=0)
    with pytest.raises(LTBenchError, match="batch_size must be 1 or more"):
        build_eval_loader(_set(), transforms=[NORMALIZE], batch_size=0, device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("channels_last", [False, True])
def test_no_batch_waits_for_the_device(channels_last: bool) -> None:
    loader = _loader(_set(), device="cuda", channels_last=channels_last)
    list(loader)  # constants go to the device with the first batch
    batches = iter(loader)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            assert batch.images.is_cuda
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_place_of_another_kind_of_device_is_told() -> None:
    with pytest.raises(LTBenchError, match="another kind of device"):
        LoaderPlace(3, torch.zeros(16, dtype=torch.uint8)).seed(torch.Generator(), 0)
