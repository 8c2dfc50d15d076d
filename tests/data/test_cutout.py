"""Cutout against a slow one that goes pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lt_bench.data.batch_transforms import build_batch_transforms
from lt_bench.data.cutout import BatchCutout, square_mask
from lt_bench.errors import LTBenchError


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(batch: int = 9, channels: int = 3, height: int = 7, width: int = 5) -> Tensor:
    shape = (batch, channels, height, width)
    return torch.randint(1, 256, shape, generator=_generator(), dtype=torch.uint8)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 20])
def test_squares_lie_where_the_slow_ones_do(size: int) -> None:
    row = torch.tensor([0, 3, 6, 2])
    column = torch.tensor([0, 2, 4, 4])
    mask = square_mask(row, column, size, 7, 5)
    assert mask.shape == (4, 1, 7, 5)
    for b in range(4):
        top, left = int(row[b]) - size // 2, int(column[b]) - size // 2
        for y in range(7):
            for x in range(5):
                inside = top <= y < top + size and left <= x < left + size
                assert bool(mask[b, 0, y, x]) == inside
        assert bool(mask[b, 0, row[b], column[b]]), "the centre is covered"


@pytest.mark.parametrize("fill", ["zeros", "mean"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_cutout_equals_the_slow_one(fill: str, dtype: torch.dtype) -> None:
    images = _images(30).to(dtype)
    kept = images.clone()
    draws = _generator(5)
    row = torch.randint(0, 7, (30,), generator=draws)
    column = torch.randint(0, 5, (30,), generator=draws)
    chosen = torch.rand(30, generator=draws) < 0.5
    result = BatchCutout(3, fill, probability=0.5)(images, _generator(5))
    assert result.dtype == dtype and torch.equal(images, kept)
    assert 0 < int(chosen.sum()) < 30
    for b in range(30):
        for c in range(3):
            mean = sum(float(v) for v in images[b, c].flatten()) / 35
            if dtype == torch.uint8:
                mean = round(mean)
            for y in range(7):
                for x in range(5):
                    near = abs(y - int(row[b])) <= 1 and abs(x - int(column[b])) <= 1
                    expected = float(images[b, c, y, x])
                    if near and chosen[b]:
                        expected = 0.0 if fill == "zeros" else mean
                    assert float(result[b, c, y, x]) == pytest.approx(expected, abs=1e-4)


def test_centres_are_uniform_over_all_pixels() -> None:
    covered = BatchCutout(1)(torch.ones(5000, 1, 4, 5), _generator())[:, 0] == 0
    assert torch.equal(covered.flatten(1).sum(1), torch.ones(5000, dtype=torch.int64))
    counts = covered.sum(0).double()
    assert float(((counts - 250) ** 2 / 250).sum()) < 45  # 19 degrees of freedom


def test_behind_normalize_it_covers_with_the_dataset_mean() -> None:
    pipeline = build_batch_transforms(
        [dict(type="batch_normalize", mean=[90.0], std=[2.0]), dict(type="batch_cutout", size=50)]
    )
    images: Tensor = _images(4, 1)
    for transform in pipeline:
        images = transform(images, _generator())
    assert torch.equal(images, torch.zeros(4, 1, 7, 5))


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (dict(type="batch_cutout", size=0), "whole number from 1"),
        (dict(type="batch_cutout", size=1.5), "whole number from 1"),
        (dict(type="batch_cutout", size=1, fill="ones"), "zeros, mean"),
        (dict(type="batch_cutout", size=1, probability=1.2), "probability must be in 0 to 1"),
    ],
)
def test_refuses(cfg: dict[str, object], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build_batch_transforms([cfg])
