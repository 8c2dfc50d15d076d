"""Rotation against Pillow's, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lt_bench.data.batch_transforms import build_batch_transforms, refuse_random
from lt_bench.data.rotation import BatchRandomRotation, rotate_by
from lt_bench.errors import LTBenchError


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(batch: int, height: int, width: int) -> Tensor:
    return torch.randint(1, 256, (batch, 3, height, width), generator=_generator(), dtype=torch.uint8)


def _pillow(image: Tensor, degrees: float) -> Tensor:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    turned = picture.rotate(degrees, resample=Image.Resampling.NEAREST, fillcolor=(0, 0, 0))
    return torch.from_numpy(np.asarray(turned).copy()).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(32, 32), (31, 31), (20, 33), (33, 20)])
def test_every_pixel_is_pillows(shape: tuple[int, int]) -> None:
    degrees = torch.tensor([-179.3, -90.4, -15.0, -3.7, -0.6, 0.0, 1.1, 7.25, 14.9, 61.0, 133.7])
    images = _images(len(degrees), *shape)
    turned = rotate_by(images, degrees)
    assert turned.dtype == torch.uint8 and turned.shape == images.shape
    expected = torch.stack([_pillow(image, float(d)) for image, d in zip(images, degrees, strict=True)])
    # Pillow reckons in fixed point: a place within a thousandth of a border may fall on either side.
    differs = (turned != expected).any(1).float().mean((1, 2))
    assert float(differs.max()) < 0.01
    assert torch.equal(turned[5], images[5]), "no angle leaves an image as it was"


def test_a_quarter_turn_is_exact() -> None:
    images = _images(4, 16, 16)
    turned = rotate_by(images, torch.tensor([90.0, -90.0, 180.0, 0.0]))
    for got, image, quarters in zip(turned, images, (1, -1, 2, 0), strict=True):
        assert torch.equal(got, torch.rot90(image, quarters, (1, 2)))


def test_angles_are_uniform_and_of_the_images_own_draw() -> None:
    # A bright bar on the horizontal line through the centre tells the angle.
    images = torch.zeros(500, 1, 201, 201)
    images[:, :, 97:104, 180:] = 1
    turned = BatchRandomRotation(30)(images, _generator(1))
    draws = (2 * torch.rand(500, generator=_generator(1)) - 1) * 30
    rows, columns = torch.arange(201.0) - 100, torch.arange(201.0) - 100
    mass = turned[:, 0].sum((1, 2))
    down = (turned[:, 0] * rows.view(1, -1, 1)).sum((1, 2)) / mass
    across = (turned[:, 0] * columns.view(1, 1, -1)).sum((1, 2)) / mass
    angles = torch.rad2deg(torch.atan2(-down, across))
    torch.testing.assert_close(angles, draws, atol=0.3, rtol=0)
    assert float(angles.min()) < -28 and float(angles.max()) > 28 and abs(float(angles.mean())) < 2


def test_no_image_is_no_image() -> None:
    assert BatchRandomRotation(15)(_images(0, 8, 8), _generator()).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_the_dtype_stays_and_the_input_is_not_written_to(dtype: torch.dtype) -> None:
    images = _images(5, 8, 8).to(dtype)
    kept = images.clone()
    turned = BatchRandomRotation(15)(images, _generator())
    assert turned.dtype == dtype and torch.equal(images, kept)
    assert set(turned.unique().tolist()) <= set(images.unique().tolist()) | {0}, "no value is made up"


@pytest.mark.parametrize("degrees", [0, -5, 181, "15", None])
def test_bad_degrees_are_one_sentence(degrees: object) -> None:
    with pytest.raises(LTBenchError, match="degrees must be above 0 and at most 180"):
        build_batch_transforms([dict(type="batch_random_rotation", degrees=degrees)])


def test_an_evaluation_refuses_it() -> None:
    with pytest.raises(LTBenchError, match="random"):
        refuse_random([BatchRandomRotation(15)])
