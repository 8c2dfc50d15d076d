"""Generated images under given counts."""

from __future__ import annotations

import pytest
import torch

from lt_bench.data.class_counts import class_counts
from lt_bench.data.generated import generated_lt
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS


def test_counts_and_shapes() -> None:
    data = DATASETS.build({"type": "generated_lt", "counts": [9, 3, 1], "image_size": 6, "test_per_class": 4})
    assert data.counts.tolist() == [9, 3, 1] and data.val is None
    assert data.train.images.shape == (13, 3, 6, 6) and data.train.images.dtype == torch.uint8
    assert torch.bincount(data.test.labels).tolist() == [4, 4, 4]


def test_a_name_brings_counts_and_test_size() -> None:
    data = generated_lt("places_lt", image_size=1, channels=1)
    assert tuple(data.counts.tolist()) == class_counts("places_lt").counts
    assert len(data.test) == 36_500 and "Places_LT_train.txt" in data.facts["profile"]


def test_the_same_seed_gives_the_same_data_and_classes_differ() -> None:
    one, same, other = (generated_lt([50, 50], seed=seed) for seed in (0, 0, 1))
    assert one.identity == same.identity != other.identity
    first, second = one.train.images[:50].float().mean(0), one.train.images[50:].float().mean(0)
    assert float((first - second).abs().mean()) > 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"counts": []}, "counts are whole numbers from 1"),
        ({"counts": [3, 0]}, "counts are whole numbers from 1"),
        ({"counts": [3, 2], "image_size": 0}, "image_size is a whole number from 1, got 0"),
        ({"counts": [3, 2], "test_per_class": 0}, "test_per_class is a whole number from 1"),
        ({"counts": "imagenet"}, "there is no 'imagenet'"),
    ],
)
def test_what_cannot_be_generated(given: dict, said: str) -> None:
    with pytest.raises(LTBenchError, match=said):
        generated_lt(**given)
