"""Several views of each image, from the transform to a classifier of stage 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from lt_bench.data.batch_transforms import build_batch_transforms, refuse_random
from lt_bench.data.images import ImageFiles, ImageSet
from lt_bench.data.loader import build_eval_loader, build_loader
from lt_bench.data.samplers import build_sampler
from lt_bench.data.views import BatchViews
from lt_bench.engine.stage2 import LoaderEpochs
from lt_bench.errors import LTBenchError
from lt_bench.timing import PartTimes

NORMALIZE = dict(type="batch_normalize", mean=[3.0] * 3, std=[2.0] * 3)
FLIPPED = [dict(type="batch_random_flip", probability=1.0), NORMALIZE]
CROPPED = [dict(type="batch_random_crop", padding=2), NORMALIZE]
VIEWS = dict(type="batch_views", views=[[NORMALIZE], FLIPPED, CROPPED, CROPPED])


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pixels(n: int = 20) -> Tensor:
    return torch.randint(0, 256, (n, 3, 6, 5), generator=_generator(), dtype=torch.uint8)


def _loader(split: ImageSet | ImageFiles, **own: Any) -> Any:
    sampler = build_sampler(
        dict(type="instance"), split.labels, num_classes=3, batch_size=8, seed=0, epochs=5, rank=0, world=1
    )
    options: dict[str, Any] = dict(transforms=[VIEWS], device="cpu", seed=0) | own
    return build_loader(split, sampler=sampler, **options)


def test_each_view_is_its_own_list_on_the_same_images() -> None:
    pixels = _pixels()
    kept = pixels.clone()
    views = BatchViews(VIEWS["views"])(pixels, _generator())
    assert views.shape == (20, 4, 3, 6, 5) and views.dtype == torch.float32 and views.is_contiguous()
    assert torch.equal(pixels, kept)
    plain = (pixels.double() - 3) / 2
    torch.testing.assert_close(views[:, 0].double(), plain)
    torch.testing.assert_close(views[:, 1].double(), plain.flip(-1))
    assert not torch.equal(views[:, 2], views[:, 3]), "two views of one list draw apart"
    draws = _generator()
    pipeline = [*build_batch_transforms(FLIPPED), *build_batch_transforms(CROPPED)]
    flip, _, crop, normalize = pipeline
    flip(pixels, draws)
    assert torch.equal(normalize(crop(pixels, draws), draws), views[:, 2])


def test_randomness_comes_from_the_generator_alone() -> None:
    views = BatchViews(VIEWS["views"])
    first = views(_pixels(), _generator(3))
    torch.manual_seed(1)
    assert torch.equal(views(_pixels(), _generator(3)), first)
    assert not torch.equal(views(_pixels(), _generator(4)), first)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_loader_carries_views_in_the_layout_asked_for(channels_last: bool) -> None:
    images = ImageSet(_pixels(), torch.arange(20) % 3)
    loader = _loader(images, channels_last=channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for batch in loader:
        assert batch.images.shape == (len(batch.labels), 4, 3, 6, 5)
        flat = batch.images.flatten(0, 1)
        assert flat.is_contiguous(memory_format=layout)
        assert flat.data_ptr() == batch.images.data_ptr()
        assert (batch.images[:, 1].stride(1) == 1) is channels_last
        expected = (images.images[batch.indices].double() - 3) / 2
        torch.testing.assert_close(batch.images[:, 0].double(), expected)
        torch.testing.assert_close(batch.images[:, 1].double(), expected.flip(-1))


def test_views_of_files(tmp_path: Path) -> None:
    pixels = _pixels()
    for i, image in enumerate(pixels):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    files = ImageFiles(tuple(f"{i}.png" for i in range(20)), torch.arange(20) % 3, tmp_path)
    batch = next(iter(_loader(files, channels_last=True)))
    expected = (pixels[batch.indices].double() - 3) / 2
    torch.testing.assert_close(batch.images[:, 0].double(), expected)
    torch.testing.assert_close(batch.images[:, 1].double(), expected.flip(-1))
    assert batch.images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_stage_2_sees_the_first_view_only() -> None:
    images = ImageSet(_pixels(), torch.arange(20) % 3)
    epochs = LoaderEpochs(_loader(images), PartTimes())
    assert len(epochs) == 3
    for one in (1, 2):
        for batch in epochs.epoch(one):
            expected = (images.images[batch.indices].double() - 3) / 2
            torch.testing.assert_close(batch.images.double(), expected)
    plain = LoaderEpochs(_loader(images, transforms=[NORMALIZE]), PartTimes())
    assert next(plain.epoch(1)).images.shape == (8, 3, 6, 5)


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ([dict(type="batch_views", views=[])], "one list of transforms a view"),
        ([dict(type="batch_views", views=[NORMALIZE])], "a view is a list of transform dicts"),
        ([dict(type="batch_views", views=[[VIEWS]])], "cannot hold batch_views"),
        ([dict(type="batch_views", views=[[dict(type="batch_random_crip")]])], "batch_random_crop"),
        ([VIEWS, NORMALIZE], "BatchViews must be the last"),
    ],
)
def test_refuses(cfg: list[dict[str, Any]], told: str, tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match=told):
        build_batch_transforms(cfg)
    files = ImageFiles(("0.png", "1.png", "2.png"), torch.arange(3), tmp_path)
    with pytest.raises(LTBenchError, match=told):
        _loader(files, transforms=cfg)


def test_refuses_views_that_do_not_fit() -> None:
    with pytest.raises(LTBenchError, match="view 2 is left as torch.uint8"):
        BatchViews([[NORMALIZE], []])(_pixels(), _generator())


def test_evaluation_refuses_views() -> None:
    with pytest.raises(LTBenchError, match="BatchViews is random"):
        refuse_random([BatchViews([[NORMALIZE]])])
    with pytest.raises(LTBenchError, match="BatchViews is random"):
        build_eval_loader(
            ImageSet(_pixels(), torch.arange(20) % 3), transforms=[VIEWS], batch_size=4, device="cpu"
        )
