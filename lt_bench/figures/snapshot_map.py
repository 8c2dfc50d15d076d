"""Figure 4 of the Breadcrumb paper: t-SNE of a many-, a medium- and a few-shot class over epochs.

Of the few-shot class also A_j^e is shown: what EMANATE, with its class-specific trail and class means, makes
of it in the same epochs. All features of all shown epochs are embedded at once, so every panel is a part of
one map, and the few-shot class before and after EMANATE has the same coordinates.

Z^e is as ``snapshots.capture`` took it, see :mod:`lt_bench.figures.loss_increase`.

How far a class's epochs lie apart in the map is told by the silhouette of its points with the epochs as
clusters: 0 where epochs lie on one another, 1 where each is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import FEW, GROUPS
from lt_bench.seeding import derive_seed, generator
from lt_bench.snapshots.assembly import assemble
from lt_bench.snapshots.ragged import starts
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail

SNAPSHOT, EMANATE = "snapshot", "EMANATE"
PERPLEXITY = 30


def middle_classes(counts: Tensor, groups: Tensor) -> dict[str, int]:
    """The class of each shot group whose training count is the median; groups without a class have none.

    Args:
        counts: (C,) int64.
        groups: (C,) int8.

    Raises:
        LTBenchError: there is no few-shot class.
    """
    order = torch.argsort(counts, stable=True)
    members = {name: order[groups[order] == number].tolist() for number, name in enumerate(GROUPS)}
    if not members[GROUPS[FEW]]:
        raise LTBenchError(
            "figure 4 is about a few-shot class and this task has none; take another convention or dataset"
        )
    return {name: own[len(own) // 2] for name, own in members.items() if own}


def shown_features(
    replay: Iterable[tuple[Snapshot, Trail]],
    classes: Mapping[str, int],
    epochs: Collection[int],
    seed: int,
) -> tuple[Tensor, pd.DataFrame]:
    """The features that the map shows.

    Args:
        replay: snapshots in the order of epochs, each with the trail before it.
        classes: one class a group, see :func:`middle_classes`.
        epochs: those to show; their trails are long enough.
        seed: the run's seed.

    Returns:
        Features (M, d) float32 on the CPU, and for each the ``group``, ``class``, ``epoch`` and ``source``:
        ``snapshot``, or ``EMANATE`` for a few-shot feature of an earlier epoch.
    """
    parts: list[Tensor] = []
    told: list[pd.DataFrame] = []

    def add(features: Tensor, group: str, epoch: int, source: str) -> None:
        parts.append(features.float().cpu())
        rows = np.arange(len(features))
        told.append(
            pd.DataFrame(
                {"group": group, "class": classes[group], "epoch": epoch, "source": source}, index=rows
            )
        )

    last = max(epochs)
    for snapshot, trail in replay:
        epoch = snapshot.epoch
        if epoch in epochs:
            first = starts(snapshot.counts)
            for group, label in classes.items():
                begin = int(first[label])
                add(
                    snapshot.features[begin : begin + int(snapshot.counts[label])],
                    group,
                    epoch,
                    SNAPSHOT,
                )
            draw = generator(trail.device, seed, "trail", epoch)
            features, labels = assemble(snapshot, trail, alignment="mean", generator=draw)
            few = GROUPS[FEW]
            # A class with n_j < n_B has all of its current features first; another has no earlier ones.
            own = features[labels == classes[few]][int(snapshot.counts[classes[few]]) :]
            add(own, few, epoch, EMANATE)
        if epoch == last:
            break
    return torch.cat(parts), pd.concat(told, ignore_index=True)


def embed(features: Tensor, seed: int) -> Tensor:
    """t-SNE (van der Maaten & Hinton, 2008) of all features at once, by scikit-learn.

    Args:
        features: (M, d) float32, four or more.
        seed: the run's seed.

    Returns:
        (M, 2) float32.
    """
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=derive_seed(seed, "t-SNE") % 2**32, n_jobs=1)
    # n_jobs is of the neighbours alone. A sum over several threads is rounded as the threads come, and t-SNE
    # makes another map of that.
    with threadpool_limits(1):
        return torch.from_numpy(tsne.fit_transform(features.numpy()))


def panels(points: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The map's points by panel: each group's snapshots, and the few-shot class after EMANATE."""
    before = points[points["source"] == SNAPSHOT]
    few = GROUPS[FEW]
    found = {name: before[before["group"] == name] for name in GROUPS if (before["group"] == name).any()}
    return {**found, f"{few}, {EMANATE}": points[points["group"] == few]}


def epoch_silhouette(panel: pd.DataFrame) -> float:
    """The mean silhouette of a panel's points in the map; NaN where every epoch is a single point."""
    if len(panel) == panel["epoch"].nunique():
        return float("nan")
    return float(silhouette_score(panel[["x", "y"]].to_numpy(), panel["epoch"].to_numpy()))
