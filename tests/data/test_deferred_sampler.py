"""Deferred sampling: whose order at which epoch, purity in (seed, epoch), shares of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lt_bench.data.samplers import EpochSampler, build_sampler
from lt_bench.errors import LTBenchError

COUNTS = (40, 19, 8, 3, 1)
OWN = ("first", "then", "fraction")


def _labels() -> Tensor:
    ordered = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    return ordered[torch.randperm(len(ordered), generator=torch.Generator().manual_seed(5))]


def _sampler(name: str = "deferred", **own: Any) -> EpochSampler:
    cfg = {"type": name, **{k: own.pop(k) for k in OWN if k in own}}
    options: dict[str, Any] = {"batch_size": 8, "seed": 0, "epochs": 10, "num_classes": 5, **own}
    return build_sampler(cfg, _labels(), **options)


@pytest.mark.parametrize(
    ("epochs", "fraction", "switch"), [(10, 0.8, 8), (200, 0.8, 160), (5, 0.5, 2), (3, 0.0, 0), (3, 1.0, 3)]
)
def test_the_order_is_that_of_the_sampler_whose_turn_it_is(epochs: int, fraction: float, switch: int) -> None:
    sampler = _sampler(epochs=epochs, fraction=fraction)
    first, then = (_sampler(name, epochs=epochs) for name in ("instance", "class_balanced"))
    for epoch in range(epochs):
        expected = first if epoch < switch else then
        assert torch.equal(sampler.epoch_indices(epoch), expected.epoch_indices(epoch))


def test_other_samplers_and_their_schedules_over_the_whole_run() -> None:
    sampler = _sampler(first={"type": "square_root"}, then={"type": "progressive"}, fraction=0.5)
    assert torch.equal(sampler.epoch_indices(4), _sampler("square_root").epoch_indices(4))
    assert torch.equal(sampler.epoch_indices(5), _sampler("progressive").epoch_indices(5))


def test_frequencies_before_and_after_the_switch() -> None:
    labels = _labels()
    for epoch, probability in ((7, np.array(COUNTS) / 71), (8, np.full(5, 0.2))):
        draws = torch.cat([_sampler(seed=seed).epoch_indices(epoch) for seed in range(300)])
        by_class = np.bincount(labels[draws].numpy(), minlength=5)
        expected = len(draws) * probability
        assert float(((by_class - expected) ** 2 / expected).sum()) < 25  # 4 degrees of freedom


@pytest.mark.parametrize("epoch", [7, 8])
def test_an_epoch_is_a_pure_function_of_seed_and_epoch(epoch: int) -> None:
    first, again = _sampler(), _sampler()
    later = again.epoch_indices(epoch)
    torch.manual_seed(1)
    for earlier in range(epoch):
        first.epoch_indices(earlier)
    assert torch.equal(first.epoch_indices(epoch), later) and later.dtype == torch.int64
    assert len(later) == first.draws == 71
    assert not torch.equal(first.epoch_indices(epoch + 1), later)
    assert not torch.equal(_sampler(seed=1).epoch_indices(epoch), later)


@pytest.mark.parametrize("epoch", [7, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_of_the_ranks_tile_the_epoch(world: int, epoch: int) -> None:
    ranks = [_sampler(rank=rank, world=world, batch_size=7) for rank in range(world)]
    order = ranks[0].epoch_indices(epoch)
    batches = [sampler.rank_batches(epoch) for sampler in ranks]
    assert {len(own) for own in batches} == {len(ranks[0])}
    merged = torch.empty(0, dtype=torch.int64)
    for k in range(len(ranks[0])):
        union = torch.empty(sum(len(own[k]) for own in batches), dtype=torch.int64)
        for rank, own in enumerate(batches):
            union[rank::world] = own[k]
        merged = torch.cat([merged, union])
    assert torch.equal(merged, order)


def test_two_samplers_of_full_batches_are_one_of_full_batches() -> None:
    class_aware = {"type": "class_aware", "per_visit": 4}
    sampler = _sampler(first=class_aware, then={"type": "class_aware", "per_visit": 1})
    assert sampler.draws == 64 and len(sampler) == 8
    assert len(sampler.epoch_indices(0)) == len(sampler.epoch_indices(9)) == 64


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"then": {"type": "class_aware"}}, r"71 of first \(instance\) and 64 of then \(class_aware\)"),
        ({"first": {"type": "bilateral"}, "then": {"type": "bilateral"}}, "a sampler of pairs"),
        ({"fraction": 160}, "in 0 to 1"),
        ({"fraction": None}, "in 0 to 1"),
        ({"first": "instance"}, "first is a sampler's dict with a 'type', got 'instance'"),
        ({"then": {}}, "then is a sampler's dict with a 'type'"),
        ({"then": {"type": "class_balansed"}}, "did you mean 'class_balanced'"),
        ({"first": {"type": "instance", "per_visit": 4}}, "per_visit"),
    ],
)
def test_refuses(options: dict[str, Any], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        _sampler(**options)
