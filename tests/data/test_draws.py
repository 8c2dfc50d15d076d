"""Augmentation is of the global batch: ranks see what one process sees; an epoch goes on in its middle."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lt_bench.data.draws import ShareGenerator, integers, uniform
from lt_bench.data.images import ImageFiles, ImageSet
from lt_bench.data.loader import build_loader
from lt_bench.data.samplers import build_sampler
from lt_bench.data.share import Share

NORMALIZE = dict(type="batch_normalize", mean=[10.0, 20.0, 30.0], std=[2.0, 3.0, 4.0])
DRAWING = [
    dict(type="batch_random_crop", padding=2),
    dict(type="batch_random_flip"),
    dict(type="batch_color_jitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, probability=0.8),
    dict(type="batch_grayscale", probability=0.3),
    dict(type="batch_cutout", size=3, probability=0.5),
    dict(type="batch_random_rotation", degrees=30),
    NORMALIZE,
]
PIPELINES = {
    "one view": DRAWING,
    "views": [
        dict(type="batch_random_flip"),
        dict(type="batch_views", views=[DRAWING, [dict(type="batch_random_crop", padding=1), NORMALIZE]]),
    ],
}
LABELS = torch.tensor([0] * 9 + [1] * 6 + [2] * 4)


@pytest.fixture(params=["memory", "files"])
def split(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSet | ImageFiles:
    pixels = torch.randint(
        0, 256, (len(LABELS), 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    if request.param == "memory":
        return ImageSet(pixels, LABELS)
    paths = [f"{n}.png" for n in range(len(LABELS))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(tmp_path / path)
    return ImageFiles(tuple(paths), LABELS, tmp_path)


def loader(split: Any, transforms: list, sampler: str = "instance", rank: int = 0, world: int = 1) -> Any:
    built = build_sampler(
        dict(type=sampler),
        LABELS,
        num_classes=3,
        batch_size=6,
        seed=3,
        epochs=4,
        rank=rank,
        world=world,
    )
    return build_loader(split, sampler=built, transforms=transforms, device="cpu", seed=3)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("sampler", ["instance", "bilateral"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_ranks_see_what_one_process_sees(split: Any, pipeline: str, sampler: str, world: int) -> None:
    transforms = PIPELINES[pipeline]
    ranks = [loader(split, transforms, sampler, rank, world) for rank in range(world)]
    one = loader(split, transforms, sampler)
    for each in (one, *ranks):
        each.set_epoch(2)
    shared = [list(rank) for rank in ranks]
    whole = list(one)
    assert all(batch.share is None for batch in whole)
    # 19 images in batches of 6 leave one over, of which only the first rank has a share.
    assert [len(own[-1].labels) for own in shared] == [len(whole[-1].labels), *[0] * (world - 1)]
    assert all(len(own) == len(whole) for own in shared)
    for step, batch in enumerate(whole):
        images = torch.zeros_like(batch.images)
        for own in (shared[rank][step] for rank in range(world)):
            assert own.share.total == len(batch.labels)
            images[own.share.places] = own.images
            assert torch.equal(batch.indices[own.share.places], own.indices)
        assert torch.equal(images, batch.images)
    for step in range(len(shared[0])):
        assert sum(own[step].share.weight for own in shared) == pytest.approx(world)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_where_it_was_left(split: Any, world: int, workers: int) -> None:
    whole = loader(split, DRAWING, world=world)
    whole.set_epoch(1)
    expected = list(whole)
    first = loader(split, DRAWING, world=world)
    first.set_epoch(1)
    batches = iter(first)
    for _ in range(2):
        next(batches)
    place = first.place(2)
    second = loader(split, DRAWING, world=world)
    second.set_epoch(1)
    second.go_on_from(place)
    rest = list(second)
    assert len(rest) == len(expected) - 2
    for one, other in zip(expected[2:], rest, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.indices, other.indices)
    assert len(list(second)) == len(expected), "the epoch after it is whole"


@pytest.mark.parametrize("draw", [uniform, lambda images, g, rows: integers(images, g, 3, 90, rows)])
@pytest.mark.parametrize("rows", [None, 3])
def test_a_share_of_the_draws_is_a_share(draw: Callable, rows: int | None) -> None:
    plain = torch.Generator().manual_seed(5)
    shared = ShareGenerator().manual_seed(5)
    places = torch.tensor([4, 0, 7])
    shared.share = Share(places, 9, 2)
    every, own = draw(torch.zeros(9, 1), plain, rows), draw(torch.zeros(3, 1), shared, rows)
    assert torch.equal(every[..., places], own)


def test_a_copied_generator_draws_the_same_and_knows_its_share() -> None:
    """A runner copies the loaders in its configuration."""
    generator = ShareGenerator()
    generator.manual_seed(3)
    generator.share = Share(torch.tensor([1, 2]), total=4, world=2)
    copied = copy.deepcopy(generator)
    assert copied.share is not None and copied.share.total == 4
    images = torch.zeros(2, 1)
    assert torch.equal(uniform(images, copied), uniform(images, generator))
