"""Samplers: distributions, purity in (seed, epoch), shares of ranks, the slow cycle."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lt_bench.data.random_keys import random_keys
from lt_bench.data.samplers import EpochSampler, build_sampler, check_sampler
from lt_bench.data.share import Share
from lt_bench.errors import LTBenchError
from lt_bench.seeding import derive_seed

NAMES = ("instance", "class_aware", "square_root", "progressive")
COUNTS = (40, 19, 8, 3, 1)


def _labels(counts: tuple[int, ...] = COUNTS) -> Tensor:
    ordered = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return ordered[torch.randperm(len(ordered), generator=torch.Generator().manual_seed(5))]


def _sampler(name: str, labels: Tensor | None = None, **own: Any) -> EpochSampler:
    labels = _labels() if labels is None else labels
    options: dict[str, Any] = {"batch_size": 8, "seed": 0, "epochs": 10, **own}
    cfg = {"type": name, **({"per_visit": options.pop("per_visit")} if "per_visit" in own else {})}
    return build_sampler(cfg, labels, num_classes=int(labels.max()) + 1, **options)


@pytest.mark.parametrize("name", NAMES)
def test_an_epoch_is_a_pure_function_of_seed_and_epoch(name: str) -> None:
    first, again = _sampler(name), _sampler(name)
    later = again.epoch_indices(7)
    for epoch in range(7):
        first.epoch_indices(epoch)
    assert torch.equal(first.epoch_indices(7), later)
    assert not torch.equal(first.epoch_indices(6), later)
    assert not torch.equal(_sampler(name, seed=1).epoch_indices(7), later)
    assert later.dtype == torch.int64
    assert len(later) == first.draws


@pytest.mark.parametrize("name", NAMES)
def test_the_global_random_state_has_no_part(name: str) -> None:
    torch.manual_seed(0)
    first = _sampler(name).epoch_indices(2)
    before = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(_sampler(name).epoch_indices(2), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [7, 8, 10])
def test_shares_of_the_ranks_tile_the_epoch(name: str, world: int, batch_size: int) -> None:
    ranks = [_sampler(name, rank=rank, world=world, batch_size=batch_size) for rank in range(world)]
    order = ranks[0].epoch_indices(3)
    batches = [sampler.rank_batches(3) for sampler in ranks]
    assert {len(own) for own in batches} == {len(ranks[0])}
    assert all(len(batch) > 0 for own in batches for batch in own[:-1])
    merged = []
    for k in range(len(ranks[0])):
        union = torch.empty(sum(len(own[k]) for own in batches), dtype=torch.int64)
        for rank, own in enumerate(batches):
            union[rank::world] = own[k]
        merged.append(union)
    assert torch.equal(torch.cat(merged), order)
    assert all(len(batch) == batch_size for batch in merged[:-1])


def test_share_is_every_world_th_of_each_global_batch() -> None:
    sampler = _sampler("instance", batch_size=10, rank=1, world=3)
    order = sampler.epoch_indices(0)
    for k, batch in enumerate(sampler.rank_batches(0)[:-1]):
        assert torch.equal(batch, order[k * 10 : (k + 1) * 10][1::3])


def test_a_remainder_smaller_than_the_world_leaves_ranks_without_an_image() -> None:
    labels = torch.arange(22) % 3
    sizes = [_sampler("instance", labels, batch_size=10, world=4, rank=r).rank_sizes() for r in range(4)]
    assert sizes == [[3, 3, 1], [3, 3, 1], [2, 2, 0], [2, 2, 0]]
    assert len(_sampler("instance", labels, batch_size=10)) == 3
    shares = _sampler("instance", labels, batch_size=10, world=4, rank=3).rank_shares()
    assert [share.total for share in shares] == [10, 10, 2] and shares[-1].weight == 0


def test_what_a_share_without_an_image_counts_for_is_zero_and_so_is_its_gradient() -> None:
    weight = torch.ones(3, requires_grad=True)
    loss = (torch.empty(0, 3) * weight).mean()
    assert loss.isnan()
    counted = Share(torch.empty(0, dtype=torch.int64), 2, 4).weighted(loss)
    counted.backward()
    assert counted == 0 and torch.equal(weight.grad, torch.zeros(3))
    assert Share(torch.tensor([1]), 2, 4).weighted(torch.tensor(3.0)) == 6


def test_instance_shows_every_image_once_in_a_uniform_order() -> None:
    sampler = _sampler("instance")
    firsts: Counter[int] = Counter()
    for epoch in range(4000):
        order = sampler.epoch_indices(epoch)
        firsts[int(order[0])] += 1
        if epoch < 5:
            assert sorted(order.tolist()) == list(range(71))
    expected = 4000 / 71
    chi_square = sum((firsts[i] - expected) ** 2 / expected for i in range(71))
    assert 30 < chi_square < 125  # 70 degrees of freedom


@pytest.mark.parametrize("per_visit", [1, 3, 4])
def test_class_aware_cycles_classes_and_images(per_visit: int) -> None:
    """Over epochs on end: classes in whole cycles, images in whole cycles of their class."""
    labels = _labels()
    sampler = _sampler("class_aware", labels, per_visit=per_visit, batch_size=9)
    assert sampler.draws == 63
    stream = torch.cat([sampler.epoch_indices(epoch) for epoch in range(40)])
    drawn = labels[stream]
    visits = drawn[: len(drawn) // per_visit * per_visit].view(-1, per_visit)
    assert bool((visits == visits[:, :1]).all())
    rounds = visits[: len(visits) // 5 * 5, 0].view(-1, 5)
    assert bool((rounds.sort(dim=1).values == torch.arange(5)).all())
    assert len({tuple(order.tolist()) for order in rounds}) > 20
    for j, count in enumerate(COUNTS):
        of_class = stream[drawn == j]
        whole = of_class[: len(of_class) // count * count].view(-1, count)
        members = torch.nonzero(labels == j).flatten()
        assert bool((whole.sort(dim=1).values == members).all())
    head = stream[drawn == 0]
    assert not torch.equal(head[:40], head[40:80])


def test_class_aware_epoch_equals_the_slow_cycle() -> None:
    """The vectorised section against one that walks from the very first draw."""

    labels, per_visit = _labels(), 4
    sampler = _sampler("class_aware", labels, per_visit=per_visit)
    members = [torch.nonzero(labels == j).flatten().tolist() for j in range(5)]
    class_seed = derive_seed("class_aware classes", 0)
    image_seed = derive_seed("class_aware images", 0)

    def shuffled(seed: int, *fixed: int, items: list[int]) -> list[int]:
        keys = [int(random_keys(seed, *(np.array(f) for f in fixed), np.array(i))) for i in range(len(items))]
        return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]

    walked: list[int] = []
    taken, cycle = [0] * 5, 0
    while len(walked) < 4 * sampler.draws:
        for j in shuffled(class_seed, cycle, items=list(range(5))):
            for _ in range(per_visit):
                own_cycle, place = divmod(taken[j], COUNTS[j])
                walked.append(shuffled(image_seed, j, own_cycle, items=members[j])[place])
                taken[j] += 1
        cycle += 1
    for epoch in range(4):
        section = walked[epoch * sampler.draws : (epoch + 1) * sampler.draws]
        assert sampler.epoch_indices(epoch).tolist() == section


@pytest.mark.parametrize(
    ("name", "epoch", "weights"),
    [
        ("square_root", 0, [n**0.5 for n in COUNTS]),
        ("square_root", 9, [n**0.5 for n in COUNTS]),
        ("progressive", 0, [n / 71 for n in COUNTS]),
        ("progressive", 4, [0.6 * n / 71 + 0.4 / 5 for n in COUNTS]),
        ("progressive", 10, [1 / 5] * 5),
    ],
)
def test_weighted_samplers_have_their_distribution(name: str, epoch: int, weights: list[float]) -> None:
    labels = _labels()
    draws = torch.cat([_sampler(name, labels, seed=seed).epoch_indices(epoch) for seed in range(600)])
    total = len(draws)
    assert total == 600 * 71
    probability = np.array(weights) / sum(weights)
    by_class = np.bincount(labels[draws].numpy(), minlength=5)
    chi_square = float(((by_class - total * probability) ** 2 / (total * probability)).sum())
    assert chi_square < 25  # 4 degrees of freedom
    by_image = np.bincount(draws.numpy(), minlength=71)
    expected = by_class[labels.numpy()] / np.array(COUNTS)[labels.numpy()]
    assert float(((by_image - expected) ** 2 / expected).sum()) < 130  # 66 degrees of freedom


def test_serves_a_torch_data_loader_as_batch_sampler() -> None:
    labels = _labels()
    sampler = _sampler("instance", labels)
    loader = DataLoader(TensorDataset(torch.arange(71)), batch_sampler=sampler)
    sampler.set_epoch(4)
    shown = torch.cat([batch[0] for batch in loader])
    assert torch.equal(shown, sampler.epoch_indices(4))
    assert len(loader) == len(sampler) == 9


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": torch.tensor([0, 2])}, "class 1 has no training sample"),
        ({"labels": torch.tensor([0, -1])}, "label -1 at position 1"),
        ({"labels": torch.tensor([0.0, 1.0])}, "int64"),
        ({"batch_size": 1, "world": 2}, "2 ranks"),
        ({"batch_size": 100, "world": 80}, "80 ranks"),
        ({"rank": 2, "world": 2}, "rank must be in 0 to 1"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"name": "class_aware", "batch_size": 72}, "do not fill one of 72"),
        ({"name": "class_aware", "per_visit": 0}, "per_visit must be 1 or more"),
        ({"name": "instance", "per_visit": 2}, "per_visit"),
        ({"name": "square_root", "per_visit": 2}, "per_visit"),
        ({"name": "instanse"}, "did you mean 'instance'"),
    ],
)
def test_refuses(options: dict[str, Any], told: str) -> None:
    arguments = {"name": "instance", **options}
    with pytest.raises(LTBenchError, match=told):
        _sampler(**arguments)


def test_refuses_a_negative_epoch_and_a_foreign_split() -> None:
    sampler = _sampler("instance")
    with pytest.raises(LTBenchError, match="an epoch is 0 or more"):
        sampler.set_epoch(-1)
    with pytest.raises(LTBenchError, match="made for 71 images, the split has 70"):
        check_sampler(sampler, 70)
