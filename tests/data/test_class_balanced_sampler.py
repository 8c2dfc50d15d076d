"""Class-balanced sampling with replacement: distribution, purity in (seed, epoch), shares of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lt_bench.data.samplers import EpochSampler, build_sampler
from lt_bench.errors import LTBenchError

COUNTS = (40, 19, 8, 3, 1)
# The first draws of epoch 3 with seed 0.
SQUARE_ROOT = [31, 38, 10, 66, 23, 14, 53, 46, 66, 1, 45, 52]
PROGRESSIVE = [31, 31, 10, 66, 23, 14, 53, 46, 66, 0, 45, 52]


def _labels() -> Tensor:
    ordered = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    return ordered[torch.randperm(len(ordered), generator=torch.Generator().manual_seed(5))]


def _sampler(**own: Any) -> EpochSampler:
    cfg = {"type": "class_balanced", **{k: own.pop(k) for k in ("per_visit",) if k in own}}
    options: dict[str, Any] = {"batch_size": 8, "seed": 0, "epochs": 10, "num_classes": 5, **own}
    return build_sampler(cfg, _labels(), **options)


@pytest.mark.parametrize("epoch", [0, 9])
def test_every_class_alike_and_every_image_of_a_class_alike(epoch: int) -> None:
    labels = _labels()
    draws = torch.cat([_sampler(seed=seed).epoch_indices(epoch) for seed in range(600)])
    assert len(draws) == 600 * 71
    by_class = np.bincount(labels[draws].numpy(), minlength=5)
    expected = 600 * 71 / 5
    assert float(((by_class - expected) ** 2 / expected).sum()) < 25  # 4 degrees of freedom
    by_image = np.bincount(draws.numpy(), minlength=71)
    within = by_class[labels.numpy()] / np.array(COUNTS)[labels.numpy()]
    assert float(((by_image - within) ** 2 / within).sum()) < 130  # 66 degrees of freedom


def test_draws_are_with_replacement_and_as_many_as_images() -> None:
    sampler = _sampler()
    order = sampler.epoch_indices(0)
    assert sampler.draws == len(order) == 71
    assert len(order.unique()) < 71


def test_an_epoch_is_a_pure_function_of_seed_and_epoch() -> None:
    first, again = _sampler(), _sampler()
    later = again.epoch_indices(7)
    torch.manual_seed(1)
    for epoch in range(7):
        first.epoch_indices(epoch)
    assert torch.equal(first.epoch_indices(7), later) and later.dtype == torch.int64
    assert not torch.equal(first.epoch_indices(6), later)
    assert not torch.equal(_sampler(seed=1).epoch_indices(7), later)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [7, 10])
def test_shares_of_the_ranks_tile_the_epoch(world: int, batch_size: int) -> None:
    ranks = [_sampler(rank=rank, world=world, batch_size=batch_size) for rank in range(world)]
    order = ranks[0].epoch_indices(3)
    batches = [sampler.rank_batches(3) for sampler in ranks]
    assert {len(own) for own in batches} == {len(ranks[0])}
    merged = torch.empty(0, dtype=torch.int64)
    for k in range(len(ranks[0])):
        union = torch.empty(sum(len(own[k]) for own in batches), dtype=torch.int64)
        for rank, own in enumerate(batches):
            union[rank::world] = own[k]
        merged = torch.cat([merged, union])
    assert torch.equal(merged, order)


def test_square_root_and_progressive_keep_their_streams() -> None:
    """Orders that earlier records were trained with."""
    for name, first in (("square_root", SQUARE_ROOT), ("progressive", PROGRESSIVE)):
        sampler = build_sampler({"type": name}, _labels(), num_classes=5, batch_size=8, seed=0, epochs=10)
        assert sampler.epoch_indices(3)[:12].tolist() == first


def test_takes_no_argument_of_its_own() -> None:
    with pytest.raises(LTBenchError, match="per_visit"):
        _sampler(per_visit=4)
