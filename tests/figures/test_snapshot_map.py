"""Figure 4: which classes, which features, and a seeded embedding of all of them at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.figures.snapshot_map import (
    EMANATE,
    SNAPSHOT,
    embed,
    epoch_silhouette,
    middle_classes,
    panels,
    shown_features,
)
from lt_bench.snapshots import Snapshot, Trail, class_specific_plan, make_snapshot

COUNTS = torch.tensor([12, 2, 5])
CLASSES = {"many": 0, "medium": 2, "few": 1}


def snapshots(epochs: int) -> list[Snapshot]:
    draw = torch.Generator().manual_seed(2)
    return [
        make_snapshot(e, torch.randn(19, 3, generator=draw, dtype=torch.float64) + e, COUNTS)
        for e in range(1, epochs + 1)
    ]


def replay(shown: list[Snapshot]) -> Iterator[tuple[Snapshot, Trail]]:
    trail = Trail(class_specific_plan(COUNTS), 3, torch.float64, "cpu")
    for snapshot in shown:
        yield snapshot, trail
        trail.push(snapshot)


def test_the_middle_class_of_each_group() -> None:
    counts = torch.tensor([300, 5, 50, 200, 15, 101, 10])
    groups = torch.tensor([0, 2, 1, 0, 2, 0, 2], dtype=torch.int8)
    assert middle_classes(counts, groups) == {"many": 3, "medium": 2, "few": 6}
    assert middle_classes(counts[1:2], groups[1:2]) == {"few": 0}
    with pytest.raises(LTBenchError, match="few-shot class and this task has none"):
        middle_classes(counts[:1], groups[:1])


def test_shown_features_against_loops() -> None:
    """n_B = 7: the few-shot class takes 2 features of each of 3 snapshots and one of a fourth."""
    taken = snapshots(7)
    features, told = shown_features(replay(taken), CLASSES, [4, 6], seed=0)
    assert len(features) == len(told) and features.dtype == torch.float32
    first = [0, 12, 14]
    for epoch in (4, 6):
        now = taken[epoch - 1]
        for group, label in CLASSES.items():
            rows = (told["group"] == group) & (told["epoch"] == epoch) & (told["source"] == SNAPSHOT)
            begin = first[label]
            expected = now.features[begin : begin + int(COUNTS[label])]
            assert torch.equal(features[torch.tensor(rows.to_numpy())], expected.float())
            assert (told["class"][rows] == label).all()
        rows = (told["epoch"] == epoch) & (told["source"] == EMANATE)
        assert rows.sum() == 5 and (told["group"][rows] == "few").all()
        possible = []
        for lag in (1, 2, 3):
            old = taken[epoch - 1 - lag]
            mean = [sum(z.features[12 + i] for i in range(2)) / 2 for z in (old, now)]
            possible += [old.features[12 + i] - mean[0] + mean[1] for i in range(2)]
        distance = torch.cdist(features[torch.tensor(rows.to_numpy())].double(), torch.stack(possible))
        nearest = distance.min(dim=1)
        assert (nearest.values < 1e-6).all()
        whole = set(nearest.indices.tolist())
        assert {0, 1, 2, 3} < whole and len(whole) == 5, "two whole snapshots and one of the oldest"


def test_the_replay_ends_with_the_last_epoch_shown() -> None:
    def watched() -> Iterator[tuple[Snapshot, Trail]]:
        for snapshot, trail in replay(snapshots(7)):
            assert snapshot.epoch <= 5
            yield snapshot, trail

    shown_features(watched(), CLASSES, [4, 5], seed=0)


def test_the_embedding_is_seeded() -> None:
    features, _ = shown_features(replay(snapshots(6)), CLASSES, [4, 5, 6], seed=0)
    first, again = embed(features, 0), embed(features, 0)
    assert first.shape == (len(features), 2) and torch.isfinite(first).all()
    assert torch.equal(first, again)


def test_the_embedding_is_the_same_with_any_number_of_threads(tmp_path: Path) -> None:
    """OpenMP's, which scikit-learn takes at a process's start."""
    code = (
        "import sys, torch; from lt_bench.figures.snapshot_map import embed\n"
        "torch.save(embed(torch.load(sys.argv[1]), 0), sys.argv[2])"
    )
    torch.save(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)), tmp_path / "features.pt")
    for threads in ("1", "3"):
        words = [sys.executable, "-c", code, str(tmp_path / "features.pt"), str(tmp_path / threads)]
        subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": threads})
    assert torch.equal(torch.load(tmp_path / "1"), torch.load(tmp_path / "3"))


def test_panels_and_silhouette() -> None:
    points = pd.DataFrame(
        [
            {"group": group, "class": 0, "epoch": epoch, "source": source, "x": x, "y": 0.0}
            for group, epoch, source, x in [
                ("medium", 1, SNAPSHOT, 0.0),
                ("medium", 1, SNAPSHOT, 1.0),
                ("medium", 2, SNAPSHOT, 10.0),
                ("medium", 2, SNAPSHOT, 11.0),
                ("few", 1, SNAPSHOT, 5.0),
                ("few", 2, SNAPSHOT, 5.0),
                ("few", 2, EMANATE, 6.0),
            ]
        ]
    )
    shown = panels(points)
    assert {name: len(own) for name, own in shown.items()} == {"medium": 4, "few": 2, "few, EMANATE": 3}
    # a = 1 and b = 10.5 or 9.5 for each of two points.
    expected = ((1 - 1 / 10.5) + (1 - 1 / 9.5)) / 2
    assert epoch_silhouette(shown["medium"]) == pytest.approx(expected)
    assert pd.isna(epoch_silhouette(shown["few"]))
