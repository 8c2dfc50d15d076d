"""digits_lt: nothing to download, all three groups present."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lt_bench.data.images import ImageSet
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS


def _keys(split: object) -> list[bytes]:
    assert isinstance(split, ImageSet)
    return [image.numpy().tobytes() for image in split.images]


def test_splits() -> None:
    data = DATASETS.build(dict(type="digits_lt"))
    assert data.counts.tolist() == [114, 81, 58, 41, 30, 21, 15, 11, 7, 5]
    assert torch.bincount(data.val.labels).tolist() == [20] * 10
    assert torch.bincount(data.test.labels).tolist() == [40] * 10
    assert data.train.images.shape == (383, 1, 8, 8)
    assert data.train.images.max() == 255
    known = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(*load_digits(return_X_y=True), strict=True)
    }
    shown: list[bytes] = []
    for split in data.splits().values():
        keys = _keys(split)
        assert [known[key] for key in keys] == split.labels.tolist()
        shown += keys
    assert len(set(shown)) == 983


@pytest.mark.parametrize("imbalance_factor", [20, 22, 25, 30])
def test_many_medium_and_few_under_each_convention(imbalance_factor: float) -> None:
    counts = DATASETS.build(dict(type="digits_lt", imbalance_factor=imbalance_factor)).counts
    for many, few in (
        (counts > 100, counts <= 20),
        (counts > 100, counts < 20),
        (counts >= 100, counts <= 20),
    ):
        assert bool(many.any())
        assert bool(few.any())
        assert bool((~many & ~few).any())


def test_the_split_is_fixed_and_validation_does_not_alter_training() -> None:
    first = DATASETS.build(dict(type="digits_lt"))
    np.random.seed(7)
    assert DATASETS.build(dict(type="digits_lt")).identity == first.identity
    without = DATASETS.build(dict(type="digits_lt", val_per_class=0))
    assert without.val is None
    assert without.train_identity == first.train_identity
    assert torch.equal(without.test.images, first.test.images)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"largest": 150}, "lower largest or val_per_class"),
        ({"val_per_class": -1}, "lower largest or val_per_class"),
        ({"imbalance_factor": 0}, "imbalance_factor must be 1 or more"),
        ({"imbalance_factor": 500}, "no training sample"),
        ({"imbalanse": 5}, "imbalanse"),
    ],
)
def test_refuses(own: dict[str, float], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        DATASETS.build(dict(type="digits_lt", **own))
