"""Sampling from some classes: all of their images, nothing else, shared out over ranks."""

from __future__ import annotations

import pytest
import torch

from lt_bench.data.samplers import EpochSampler, build_sampler
from lt_bench.errors import LTBenchError

LABELS = torch.tensor([0, 2, 1, 2, 0, 1, 2, 2, 3])


def made(classes: list[int], **options: int) -> EpochSampler:
    common = {"num_classes": 4, "batch_size": 4, "seed": 0, "epochs": 3, **options}
    return build_sampler({"type": "of_classes", "classes": classes}, LABELS, **common)


def test_an_epoch_is_the_classes_images_shuffled() -> None:
    sampler = made([2, 0])
    orders = [sampler.epoch_indices(epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == [0, 1, 3, 4, 6, 7]
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[1], made([0, 2]).epoch_indices(1))
    assert not torch.equal(orders[1], made([0, 2], seed=1).epoch_indices(1))
    assert len(sampler) == 2 and sampler.draws == 6


def test_ranks_share_it() -> None:
    order = made([2, 0]).epoch_indices(2)
    shares = [made([2, 0], rank=rank, world=2).rank_batches(2) for rank in range(2)]
    assert sorted(torch.cat(shares[0] + shares[1]).tolist()) == sorted(order.tolist())
    assert len(shares[0]) == len(shares[1]) == 2


@pytest.mark.parametrize("classes", [[], [4], [-1], ["0"]])
def test_other_classes_are_refused(classes: list) -> None:
    with pytest.raises(LTBenchError, match="of_classes draws from classes of 0 to 3"):
        made(classes)


def test_too_few_images_for_the_ranks() -> None:
    with pytest.raises(LTBenchError, match="the classes have 1"):
        made([3], rank=0, world=2)
