"""Whole-batch transforms against slow ones that go sample by sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lt_bench.data.batch_transforms import (
    BatchNormalize,
    BatchRandomCrop,
    BatchRandomFlip,
    BatchTransform,
    build_batch_transforms,
    crop_at,
    flip_where,
    refuse_random,
)
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(batch: int = 9, channels: int = 3, height: int = 7, width: int = 5) -> Tensor:
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, generator=_generator(), dtype=torch.uint8)


@pytest.mark.parametrize("padding", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_equals_the_slow_crop(padding: int, dtype: torch.dtype) -> None:
    images = _images().to(dtype)
    top = torch.randint(0, 2 * padding + 1, (9,), generator=_generator(1))
    left = torch.randint(0, 2 * padding + 1, (9,), generator=_generator(2))
    expected = torch.zeros_like(images)
    for b in range(9):
        for y in range(7):
            for x in range(5):
                row, column = y + int(top[b]) - padding, x + int(left[b]) - padding
                if 0 <= row < 7 and 0 <= column < 5:
                    expected[b, :, y, x] = images[b, :, row, column]
    result = crop_at(images, top, left, padding)
    assert torch.equal(result, expected)
    assert result.is_contiguous()
    assert result.dtype == dtype


def test_flip_equals_the_slow_flip() -> None:
    images, chosen = _images(), torch.tensor([True, False, True] * 3)
    result = flip_where(images, chosen)
    for b in range(9):
        for x in range(5):
            source = 4 - x if chosen[b] else x
            assert torch.equal(result[b, :, :, x], images[b, :, :, source])


def test_normalize_equals_the_slow_formula() -> None:
    mean, std = [129.3, 124.1, 112.4], [68.2, 65.4, 70.4]
    images = _images()
    expected = images.double()
    for c in range(3):
        expected[:, c] = (expected[:, c] - mean[c]) / std[c]
    result = BatchNormalize(mean, std)(images, _generator())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)


def test_normalize_leaves_its_input_alone() -> None:
    images = _images().float()
    kept = images.clone()
    BatchNormalize([1.0] * 3, [2.0] * 3)(images, _generator())
    assert torch.equal(images, kept)


def test_crop_offsets_are_uniform_and_each_sample_has_its_own() -> None:
    position = torch.zeros(5000, 1, 9, 9, dtype=torch.uint8)
    position[:, :, 4, 4] = 1
    cropped = BatchRandomCrop(padding=2)(position, _generator())
    where = cropped.flatten(1).argmax(1)
    counts = torch.stack([(where == i).sum() for i in where.unique()]).double()
    assert len(counts) == 25
    assert float(((counts - 200) ** 2 / 200).sum()) < 60  # 24 degrees of freedom


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip_has_its_probability(probability: float) -> None:
    images = torch.tensor([0, 1], dtype=torch.uint8).expand(10_000, 1, 1, 2)
    flipped = BatchRandomFlip(probability)(images, _generator())[:, 0, 0, 0].double().mean()
    assert abs(float(flipped) - probability) < 0.02


@pytest.mark.parametrize("transform", [BatchRandomCrop(2), BatchRandomFlip()])
def test_randomness_comes_from_the_generator_alone(transform: BatchTransform) -> None:
    images = _images(64)
    torch.manual_seed(0)
    first = transform(images, _generator(3))
    torch.manual_seed(1)
    assert torch.equal(transform(images, _generator(3)), first)
    assert not torch.equal(transform(images, _generator(4)), first)


def test_builds_by_name() -> None:
    built = build_batch_transforms(
        [dict(type="batch_random_crop", padding=4), dict(type="batch_random_flip")]
    )
    assert [type(t) for t in built] == [BatchRandomCrop, BatchRandomFlip]


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (dict(type="batch_random_crop", padding=0), "padding must be 1 or more"),
        (dict(type="batch_random_crop"), "padding"),
        (dict(type="batch_random_flip", probability=1.5), "probability must be in 0 to 1"),
        (dict(type="batch_normalize", mean=[0.0], std=[0.0]), "std be above 0"),
        (dict(type="batch_normalize", mean=[0.0], std=[1.0, 1.0]), "one number a channel"),
        (dict(type="batch_normalize", mean=77.8, std=[95.9]), r"mean is a list .*got 77.8"),
        (dict(type="batch_normalize", mean=[77.8], std=95.9), r"std is a list .*got 95.9"),
        (dict(type="batch_normalize", mean=["77.8"], std=[95.9]), r"mean is a list .*got \['77.8'\]"),
        (dict(type="batch_random_crip", padding=1), "did you mean 'batch_random_crop'"),
        (dict(padding=1), "a dict with a 'type'"),
    ],
)
def test_refuses(cfg: dict[str, object], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build_batch_transforms([cfg])


def test_refuses_a_transform_of_single_images() -> None:
    name = "single_image_transform_of_a_test"

    class Invert:
        """Of one image."""

        def __call__(self, image: Tensor) -> Tensor:
            return 255 - image

    TRANSFORMS.register_module(name=name, module=Invert)
    try:
        with pytest.raises(LTBenchError, match="works on single images"):
            build_batch_transforms([dict(type=name)])
    finally:
        TRANSFORMS._module_dict.pop(name)


def test_normalize_refuses_another_number_of_channels() -> None:
    with pytest.raises(LTBenchError, match="have 1 channels, the images 3"):
        BatchNormalize([0.0], [1.0])(_images(), _generator())


def test_evaluation_refuses_random_transforms() -> None:
    refuse_random([BatchNormalize([0.0], [1.0])])
    with pytest.raises(LTBenchError, match="BatchRandomFlip is random"):
        refuse_random([BatchRandomFlip()])
