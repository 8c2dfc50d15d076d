"""Colour augmentation against pixel-by-pixel float64 and the standard library's HSV."""

from __future__ import annotations

import colorsys

import pytest
import torch
from torch import Tensor

from lt_bench.data.batch_transforms import BatchTransform, build_batch_transforms
from lt_bench.data.color_transforms import (
    BatchColorJitter,
    BatchGrayscale,
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    luma,
    turn_hue,
)
from lt_bench.errors import LTBenchError

FULL = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(batch: int = 6, channels: int = 3, height: int = 4, width: int = 3) -> Tensor:
    shape = (batch, channels, height, width)
    images = torch.randint(0, 256, shape, generator=_generator(), dtype=torch.uint8)
    images[0, :, 0, 0] = 0  # black, white and grey have no hue
    images[0, :, 0, 1] = 255
    images[0, :, 0, 2] = 77
    return images


def _grey(pixel: list[float]) -> float:
    return pixel[0] if len(pixel) == 1 else 0.2989 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]


def _cut(value: float) -> float:
    return min(max(value, 0.0), 255.0)


def _slow(image: Tensor, *, brightness=None, contrast=None, saturation=None, hue=None) -> Tensor:
    """One image (C, H, W), pixel by pixel in float64; None leaves a step out."""
    pixels = image.double().flatten(1).T.tolist()
    if brightness is not None:
        pixels = [[_cut(brightness * v) for v in p] for p in pixels]
    if contrast is not None:
        mean = sum(_grey(p) for p in pixels) / len(pixels)
        pixels = [[_cut(contrast * v + (1 - contrast) * mean) for v in p] for p in pixels]
    if saturation is not None:
        pixels = [[_cut(saturation * v + (1 - saturation) * _grey(p)) for v in p] for p in pixels]
    if hue is not None:
        turned = []
        for p in pixels:
            h, s, v = colorsys.rgb_to_hsv(*(x / 255 for x in p))
            turned.append([255 * x for x in colorsys.hsv_to_rgb((h + hue) % 1.0, s, v)])
        pixels = turned
    return torch.tensor(pixels, dtype=torch.float64).T.view(image.shape)


@pytest.mark.parametrize(
    ("function", "step", "amounts"),
    [
        (adjust_brightness, "brightness", [0.0, 0.6, 1.0, 1.4, 3.0, 1.1]),
        (adjust_contrast, "contrast", [0.0, 0.6, 1.0, 1.4, 3.0, 1.1]),
        (adjust_saturation, "saturation", [0.0, 0.6, 1.0, 1.4, 3.0, 1.1]),
        (turn_hue, "hue", [-0.5, -0.1, 0.0, 0.1, 0.33, 0.5]),
    ],
)
def test_each_step_equals_the_slow_one(function, step: str, amounts: list[float]) -> None:
    images = _images()
    result = function(images.float(), torch.tensor(amounts))
    for b, amount in enumerate(amounts):
        expected = _slow(images[b], **{step: amount})
        torch.testing.assert_close(result[b].double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_jitter_equals_the_slow_one(channels: int) -> None:
    images = _images(40, channels)
    draw = torch.rand((5, 40), generator=_generator(7)).double()
    result = BatchColorJitter(**FULL, probability=0.5)(images, _generator(7))
    assert result.dtype == torch.uint8
    jittered = 0
    for b in range(40):
        if draw[4, b] >= 0.5:
            assert torch.equal(result[b], images[b])
            continue
        jittered += 1
        steps = dict(
            brightness=0.6 + 0.8 * float(draw[0, b]),
            contrast=0.6 + 0.8 * float(draw[1, b]),
        )
        if channels == 3:
            steps["saturation"] = 0.6 + 0.8 * float(draw[2, b])
            steps["hue"] = -0.1 + 0.2 * float(draw[3, b])
        error = (result[b].double() - _slow(images[b], **steps)).abs().max()
        assert float(error) <= 0.51, "rounded once, at the end"
    assert 8 < jittered < 32


def test_factors_have_their_range_and_each_sample_its_own() -> None:
    images = torch.full((4000, 1, 1, 1), 100.0)
    bright = BatchColorJitter(brightness=0.4)(images, _generator())[:, 0, 0, 0]
    assert 60 <= float(bright.min()) < 61 and 139 < float(bright.max()) <= 140
    assert abs(float(bright.mean()) - 100) < 1.5
    assert len(bright.unique()) > 3000
    strong = BatchColorJitter(brightness=3.0)(images, _generator())[:, 0, 0, 0]
    assert float(strong.min()) >= 0 and float(strong.max()) == 255, "factors are from 0 and values are cut"


def test_nothing_asked_changes_nothing() -> None:
    for images in (_images(), _images().float()):
        assert torch.equal(BatchColorJitter()(images, _generator()), images)
        assert torch.equal(BatchColorJitter(**FULL, probability=0.0)(images, _generator()), images)
        assert torch.equal(BatchGrayscale(0.0)(images, _generator()), images)


def test_grayscale_equals_the_slow_one() -> None:
    images = _images(200)
    chance = torch.rand(200, generator=_generator(3))
    result = BatchGrayscale(0.3)(images, _generator(3))
    for b in range(200):
        expected = images[b].double()
        if chance[b] < 0.3:
            grey = 0.2989 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2]
            expected = grey.expand(3, -1, -1)
        assert float((result[b].double() - expected).abs().max()) <= 0.51
    grey = (result[:, 0] == result[:, 1]).flatten(1).all(1)
    assert 0.2 < float(grey.double().mean()) < 0.4
    assert result.shape == images.shape and result.dtype == torch.uint8


def test_one_channel_is_its_own_grey() -> None:
    images = _images(channels=1)
    assert torch.equal(luma(images), images)
    assert torch.equal(BatchGrayscale(1.0)(images, _generator()), images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [BatchColorJitter(**FULL), BatchGrayscale(0.5)])
def test_what_is_drawn_later_does_not_depend_on_the_images(kind: BatchTransform, channels: int) -> None:
    used, reference = _generator(), _generator()
    kind(_images(), reference)
    kind(_images(channels=channels), used)
    assert torch.equal(torch.rand(3, generator=used), torch.rand(3, generator=reference))


@pytest.mark.parametrize("kind", [BatchColorJitter(**FULL), BatchGrayscale(0.5)])
def test_randomness_comes_from_the_generator_alone(kind: BatchTransform) -> None:
    images = _images(64)
    kept = images.clone()
    torch.manual_seed(0)
    first = kind(images, _generator(3))
    torch.manual_seed(1)
    assert torch.equal(kind(images, _generator(3)), first)
    assert not torch.equal(kind(images, _generator(4)), first)
    assert torch.equal(images, kept)
    assert kind.random


@pytest.mark.parametrize("value", [0.0, 255.0])
def test_extreme_images_stay_finite_and_in_range(value: float) -> None:
    images = torch.full((5, 3, 1, 1), value)
    result = BatchColorJitter(1.0, 1.0, 1.0, 0.5)(images, _generator())
    assert torch.isfinite(result).all() and float(result.min()) >= 0 and float(result.max()) <= 255


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (dict(type="batch_color_jitter", brightness=-0.1), "brightness must be 0 or more"),
        (dict(type="batch_color_jitter", contrast=-0.1), "contrast must be 0 or more"),
        (dict(type="batch_color_jitter", saturation=-0.1), "saturation must be 0 or more"),
        (dict(type="batch_color_jitter", hue=0.6), "hue must be in 0 to 0.5"),
        (dict(type="batch_color_jitter", probability=2), "probability must be in 0 to 1"),
        (dict(type="batch_grayscale", probability=-1), "probability must be in 0 to 1"),
    ],
)
def test_refuses(cfg: dict[str, object], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build_batch_transforms([cfg])


@pytest.mark.parametrize("kind", [BatchColorJitter(**FULL), BatchGrayscale(0.5)])
def test_refuses_two_channels(kind: BatchTransform) -> None:
    with pytest.raises(LTBenchError, match="1 or 3 channels, got 2"):
        kind(_images(channels=2), _generator())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", [BatchColorJitter(**FULL, probability=0.8), BatchGrayscale(0.2)])
def test_does_not_wait_for_the_device(kind: BatchTransform) -> None:
    images, generator = _images().cuda(), torch.Generator(device="cuda").manual_seed(0)
    kind(images, generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        kind(images, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
