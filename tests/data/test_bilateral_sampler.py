"""The pairs of BBN: distributions, purity in (seed, epoch), shares of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lt_bench.data.bilateral_sampler import BilateralSampler
from lt_bench.data.samplers import build_sampler
from lt_bench.errors import LTBenchError

COUNTS = (40, 19, 8, 3, 1)
N = sum(COUNTS)


def _labels() -> Tensor:
    ordered = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))
    return ordered[torch.randperm(N, generator=torch.Generator().manual_seed(5))]


def _sampler(**own: Any) -> BilateralSampler:
    options = {"batch_size": 8, "seed": 0, "epochs": 10, **own}
    return build_sampler({"type": "bilateral"}, _labels(), num_classes=5, **options)


def test_uniform_places_are_a_permutation_and_the_others_are_not() -> None:
    sampler = _sampler()
    order = sampler.epoch_indices(3)
    assert order.dtype == torch.int64 and len(order) == sampler.draws == 2 * N
    assert sorted(order[0::2].tolist()) == list(range(N))
    assert sorted(order[1::2].tolist()) != list(range(N))


def test_reversed_places_have_the_reversed_distribution() -> None:
    labels = _labels()
    draws = torch.cat([_sampler(seed=seed).epoch_indices(1)[1::2] for seed in range(600)])
    weights = np.array([1 / n for n in COUNTS])
    expected = len(draws) * weights / weights.sum()
    by_class = np.bincount(labels[draws].numpy(), minlength=5)
    assert float(((by_class - expected) ** 2 / expected).sum()) < 25  # 4 degrees of freedom
    assert by_class[4] > by_class[0], "the rarest class is the most frequent"
    by_image = np.bincount(draws.numpy(), minlength=N)
    of_class = by_class[labels.numpy()] / np.array(COUNTS)[labels.numpy()]
    assert float(((by_image - of_class) ** 2 / of_class).sum()) < 130  # 66 degrees of freedom


def test_an_epoch_is_a_pure_function_of_seed_and_epoch() -> None:
    later = _sampler().epoch_indices(7)
    torch.manual_seed(1)
    sampler = _sampler()
    sampler.epoch_indices(2)
    assert torch.equal(sampler.epoch_indices(7), later)
    assert not torch.equal(sampler.epoch_indices(6)[1::2], later[1::2])
    assert not torch.equal(_sampler(seed=1).epoch_indices(7)[0::2], later[0::2])


def test_batch_size_counts_pairs_so_that_steps_are_those_of_plain_training() -> None:
    plain = build_sampler({"type": "instance"}, _labels(), num_classes=5, batch_size=8, seed=0, epochs=10)
    sampler = _sampler()
    assert len(sampler) == len(plain) == 9
    assert sampler.pairs == 8 and sampler.batch_size == 16
    assert sampler.rank_sizes() == [2 * size for size in plain.rank_sizes()]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [5, 7, 8, 10])
def test_every_share_is_uniform_and_reversed_in_turn(world: int, batch_size: int) -> None:
    ranks = [_sampler(rank=r, world=world, batch_size=batch_size) for r in range(world)]
    order = ranks[0].epoch_indices(2)
    assert all(torch.equal(sampler.epoch_indices(2), order) for sampler in ranks), "whatever the world"
    shares = [sampler.rank_batches(2) for sampler in ranks]
    assert {len(own) for own in shares} == {len(ranks[0])}
    start = 0
    for k in range(len(ranks[0])):
        pairs = sum(len(own[k]) for own in shares) // 2
        merged = torch.empty(pairs, 2, dtype=torch.int64)
        for rank, own in enumerate(shares):
            assert len(own[k]) % 2 == 0
            assert len(own[k]) or (k == len(ranks[0]) - 1 and rank >= pairs)
            merged[rank::world, 0] = own[k][0::2]
            merged[rank::world, 1] = own[k][1::2]
        # The global order is uniform at even places, so equality places every image of every share.
        assert torch.equal(merged.flatten(), order[start : start + 2 * pairs])
        assert start % 2 == 0
        start += 2 * pairs
        if k + 1 < len(ranks[0]):
            assert pairs == batch_size
    assert start == 2 * N


def test_a_remainder_of_fewer_pairs_than_ranks_leaves_ranks_without_one() -> None:
    # 71 pairs are 7 batches of 10 and one pair over, which two ranks cannot share.
    assert _sampler(batch_size=10, world=2).rank_sizes() == [10] * 7 + [2]
    assert _sampler(batch_size=10, world=2, rank=1).rank_sizes() == [10] * 7 + [0]
    assert _sampler(batch_size=10).rank_sizes() == [20] * 7 + [2]


def test_iteration_gives_the_ranks_batches() -> None:
    sampler = _sampler(rank=1, world=2)
    sampler.set_epoch(4)
    assert [torch.tensor(b).tolist() for b in sampler] == [b.tolist() for b in sampler.rank_batches(4)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch_size": 1, "world": 2}, "2 ranks"),
        ({"rank": 2, "world": 2}, "rank must be in 0 to 1"),
        ({"epochs": 0}, "epochs must be 1 or more"),
    ],
)
def test_refuses(options: dict[str, Any], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        _sampler(**options)
