"""Figure 3 of the Breadcrumb paper: the loss increase by EMANATE against the training gain (lemma 1).

For a class y and two epochs e' < e with their optimal classifiers,

    gain      L_y(Z_y^e', W^e', b^e') - L_y(Z_y^e, W^e, b^e)
    increase  L_y(A_y^e, W^e, b^e) - L_y(Z_y^e, W^e, b^e),   A_y^e = Z_y^e and Z_y^{e'->e} by (5), (7);

the lemma says increase >= gain / 2, so that a gain comes with an increase (theorem 1). It assumes (10), which
no classifier meets. With those of :mod:`lt_bench.figures.optimal_classifier` it may fail, as where classes
moved apart between the two epochs: the loss fell, but aligned features have moved with them and add little.
Every point is shown, whether the lemma holds for it or not.

Z^e is as ``snapshots.capture`` took it: by (2) at the end of epoch e (``epoch_end``), or in the epoch's
training forward, as the configs of this project have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from lt_bench.evaluation.shots import GROUPS
from lt_bench.figures.optimal_classifier import class_losses, optimal_classifier
from lt_bench.snapshots.snapshot import Snapshot

ALL = "all"


@dataclass(frozen=True)
class EpochPairs:
    """P pairs of epochs.

    Attributes:
        earlier, later: (P,) int64, e' and e.
        gain, increase: (P, C) float64, in nats.
    """

    earlier: Tensor
    later: Tensor
    gain: Tensor
    increase: Tensor

    @property
    def holds(self) -> Tensor:
        """(P, C) bool: whether the increase is at least half of the gain."""
        return self.increase >= self.gain / 2


def epoch_pairs(snapshots: Sequence[Snapshot], weight_decay: float) -> EpochPairs:
    """Gain and increase of every class, for every pair of snapshots.

    Args:
        snapshots: two or more of one training set, by epoch.
        weight_decay: lambda of the optimal classifiers.

    Raises:
        LTBenchError: see :func:`lt_bench.figures.optimal_classifier.optimal_classifier`.
    """
    counts = snapshots[0].counts
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts).to(snapshots[0].features.device)
    best = [optimal_classifier(snapshot.features, labels, weight_decay) for snapshot in snapshots]
    losses = torch.stack(
        [class_losses(s.features, labels, classifier) for s, classifier in zip(snapshots, best, strict=True)]
    )
    pairs = torch.combinations(torch.arange(len(snapshots)))
    # A_y^e has as many aligned features as current ones: its loss is the mean of the two.
    aligned = torch.stack(
        [
            class_losses(aligned_to(snapshots[new], snapshots[old], labels), labels, best[new])
            for old, new in pairs.tolist()
        ]
    )
    epochs = torch.tensor([snapshot.epoch for snapshot in snapshots])
    old, new = pairs.T
    return EpochPairs(
        earlier=epochs[pairs[:, 0]],
        later=epochs[pairs[:, 1]],
        gain=losses[old] - losses[new],
        increase=(aligned - losses[new]) / 2,
    )


def aligned_to(new: Snapshot, old: Snapshot, labels: Tensor) -> Tensor:
    """Z^{e'->e}, (5): the old features (N, d), moved by their classes' means; float64."""
    return old.features.double() + (new.mean.double() - old.mean.double()).index_select(0, labels)


def group_points(pairs: EpochPairs, groups: Tensor) -> pd.DataFrame:
    """The points of the figure: means over all classes and over those of each shot group.

    Args:
        pairs: gain and increase by class.
        groups: (C,) int8, see :func:`lt_bench.evaluation.shots.shot_groups`.

    Returns:
        A row a pair and group: ``group``, ``classes``, ``earlier``, ``later``, ``gain``, ``increase`` and
        ``holds``, whether the increase is at least half of the gain. Groups without a class have none.
    """
    members = {ALL: torch.ones_like(groups, dtype=torch.bool)}
    members |= {name: groups == number for number, name in enumerate(GROUPS)}
    parts = [
        pd.DataFrame(
            {
                "group": name,
                "classes": int(own.sum()),
                "earlier": pairs.earlier.numpy(),
                "later": pairs.later.numpy(),
                "gain": pairs.gain[:, own].mean(dim=1).numpy(),
                "increase": pairs.increase[:, own].mean(dim=1).numpy(),
            }
        )
        for name, own in members.items()
        if bool(own.any())
    ]
    points = pd.concat(parts, ignore_index=True)
    points["holds"] = points["increase"] >= points["gain"] / 2
    return points
