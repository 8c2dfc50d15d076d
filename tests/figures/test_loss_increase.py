"""Figure 3: gains and increases against loops over samples, groups, and pairs that violate the lemma."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lt_bench.figures.loss_increase import epoch_pairs, group_points
from lt_bench.figures.optimal_classifier import optimal_classifier
from lt_bench.snapshots import Snapshot, make_snapshot
from tests.figures.test_optimal_classifier import COUNTS, slow_class_losses

DECAY = 0.01
LABELS = torch.repeat_interleave(torch.arange(3), COUNTS)


def run(seed: int, epochs: int = 3) -> list[Snapshot]:
    draw = torch.Generator().manual_seed(seed)
    return [
        make_snapshot(
            4 * epoch,
            torch.randn(13, 2, generator=draw, dtype=torch.float64) + epoch * LABELS[:, None],
            COUNTS,
        )
        for epoch in range(1, epochs + 1)
    ]


def slowly_aligned(old: Tensor, new: Tensor) -> Tensor:
    """(5), sample by sample."""
    rows = []
    for row, label in zip(old, LABELS, strict=True):
        means = [
            sum(z for z, y in zip(features, LABELS, strict=True) if y == label) / COUNTS[label]
            for features in (old, new)
        ]
        rows.append(row - means[0] + means[1])
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(3))
def test_gain_and_increase(seed: int) -> None:
    snapshots = run(seed)
    pairs = epoch_pairs(snapshots, DECAY)
    assert list(zip(pairs.earlier.tolist(), pairs.later.tolist(), strict=True)) == [(4, 8), (4, 12), (8, 12)]
    row = 0
    for i in range(3):
        for k in range(i + 1, 3):
            old, new = snapshots[i].features, snapshots[k].features
            before, after = (optimal_classifier(z, LABELS, DECAY) for z in (old, new))
            first = slow_class_losses(old, LABELS, *before)
            second = slow_class_losses(new, LABELS, *after)
            both = torch.cat([new, slowly_aligned(old, new)])
            augmented = slow_class_losses(both, LABELS.repeat(2), *after)
            for y in range(3):
                assert float(pairs.gain[row, y]) == pytest.approx(first[y] - second[y], abs=1e-10)
                assert float(pairs.increase[row, y]) == pytest.approx(augmented[y] - second[y], abs=1e-10)
            row += 1


def test_groups_are_means_over_their_classes() -> None:
    pairs = epoch_pairs(run(1), DECAY)
    points = group_points(pairs, torch.tensor([1, 2, 2], dtype=torch.int8))
    assert points["group"].unique().tolist() == ["all", "medium", "few"], "no many-shot class, no points"
    members = {"all": [0, 1, 2], "medium": [0], "few": [1, 2]}
    for name, own in points.groupby("group"):
        classes = members[str(name)]
        assert set(own["classes"]) == {len(classes)} and len(own) == 3
        for number, (_, point) in enumerate(own.iterrows()):
            gain = sum(float(pairs.gain[number, y]) for y in classes) / len(classes)
            increase = sum(float(pairs.increase[number, y]) for y in classes) / len(classes)
            assert point["gain"] == pytest.approx(gain, rel=1e-12)
            assert point["increase"] == pytest.approx(increase, rel=1e-12)
            assert point["holds"] == (increase >= gain / 2)


def test_points_that_violate_the_lemma_are_kept() -> None:
    """Classes that move apart rigidly: a gain, and aligned features are exact copies."""
    cloud = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    counts = torch.tensor([5, 5])
    near, far = (torch.cat([cloud - m, cloud + m])[:, None] for m in (0.2, 1.5))
    pairs = epoch_pairs([make_snapshot(1, near, counts), make_snapshot(2, far, counts)], 1e-4)
    points = group_points(pairs, torch.tensor([2, 2], dtype=torch.int8))
    assert len(points) == 2 and not points["holds"].any()
    assert (points["gain"] > 0.1).all() and (points["increase"].abs() < 1e-9).all()


def test_moving_together_the_lemma_holds_in_the_total() -> None:
    """With little regularisation, as tests/snapshots/test_theory.py proves it without any."""
    draw = torch.Generator().manual_seed(5)
    cloud = 2 * torch.randn(13, 2, generator=draw, dtype=torch.float64) + 0.8 * LABELS[:, None]
    first = make_snapshot(1, cloud, COUNTS)
    # Every feature half way to its class's mean, and all moved alike.
    second = make_snapshot(2, (cloud + first.mean[LABELS]) / 2 + 7.0, COUNTS)
    points = group_points(
        epoch_pairs([first, second], 1e-6), torch.tensor([0, 1, 2], dtype=torch.int8)
    ).set_index("group")
    assert points.loc["all", "gain"] > 0 and points.loc["all", "holds"]
