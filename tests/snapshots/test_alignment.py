"""The four affine maps against scalar arithmetic, and what an alignment of one's own needs."""

from __future__ import annotations

import math

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.registry import ALIGNMENTS
from lt_bench.snapshots.alignment import GatheredMoments

GENERATOR = torch.Generator().manual_seed(3)
MEANS = torch.randn(4, 5, generator=GENERATOR, dtype=torch.float64)
STDS = torch.rand(4, 5, generator=GENERATOR, dtype=torch.float64) + 0.1
EPOCH_MEANS = torch.randn(3, 5, generator=GENERATOR, dtype=torch.float64)


def moments(groups: list[int], epochs: list[int], count: list[int], std=STDS) -> GatheredMoments:
    return GatheredMoments(
        MEANS, std, EPOCH_MEANS, torch.tensor(groups), torch.tensor(epochs), torch.tensor(count)
    )


def test_names() -> None:
    assert {"mean", "variance", "class_agnostic", "none"} <= set(ALIGNMENTS.names())
    with pytest.raises(LTBenchError, match="did you mean 'mean'"):
        ALIGNMENTS.get("means")


def test_each_map_by_hand() -> None:
    count = [3, 2]
    old, new = moments([0, 2], [0, 1], count), moments([1, 3], [2, 2], count)
    z = 0.7
    for p, (before, now, epoch) in enumerate([(0, 1, 0), (2, 3, 1)]):
        for k in range(5):
            m0, m1 = float(MEANS[before, k]), float(MEANS[now, k])
            s0, s1 = float(STDS[before, k]), float(STDS[now, k])
            expected = {
                "mean": z - m0 + m1,
                "variance": (z - m0) / s0 * s1 + m1,
                "class_agnostic": z - float(EPOCH_MEANS[epoch, k]) + float(EPOCH_MEANS[2, k]),
                "none": z,
            }
            for name, value in expected.items():
                scale, shift = ALIGNMENTS.get(name)(old, new)
                mapped = z
                if scale is not None:
                    mapped = float(scale[p, k]) * mapped
                if shift is not None:
                    mapped += float(shift[p, k])
                assert math.isclose(mapped, value, rel_tol=1e-12, abs_tol=1e-12), (name, p, k)


def test_variance_keeps_the_scale_of_one_sample_and_of_no_spread() -> None:
    std = STDS.clone()
    std[2, 1] = 0.0
    std[2, 3] = 1e-9 * MEANS[2, 3].abs()
    old = moments([0, 2], [0, 0], [1, 4], std)
    new = moments([1, 3], [1, 1], [1, 4], std)
    scale, shift = ALIGNMENTS.get("variance")(old, new)
    assert torch.isfinite(scale).all() and torch.isfinite(shift).all()
    assert torch.equal(scale[0], torch.ones(5, dtype=torch.float64))
    kept = torch.tensor([False, True, False, True, False])
    assert torch.equal(scale[1] == 1, kept)
    torch.testing.assert_close(shift[1][kept], (MEANS[3] - MEANS[2])[kept])


def test_variance_follows_a_class_that_collapses() -> None:
    std = STDS.clone()
    std[3] = 0.0
    scale, shift = ALIGNMENTS.get("variance")(moments([2], [0], [4], std), moments([3], [1], [4], std))
    assert torch.equal(scale, torch.zeros_like(scale))
    assert torch.equal(shift[0], MEANS[3])
