"""Accuracy of every class, classes sorted by their training images: any set of run records, a curve a method.

The records of one config are pooled over their seeds. A curve is smoothed by the mean over the ``window``
classes around each, fewer at the two ends, whatever shot group they are of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError, near_names
from lt_bench.evaluation.record import RunRecord, read_record, read_records
from lt_bench.evaluation.shots import GROUPS, shot_groups
from lt_bench.leaderboard.build import check_poolable


def find_records(names: Sequence[str], folder: Path) -> list[RunRecord]:
    """The records that are named.

    Args:
        names: files of records, or names of configs, or what these start with (``fashion_mnist_lt``); all
            records if there are none.
        folder: of records.

    Returns:
        Each once, in the order of the names.

    Raises:
        LTBenchError: no such record, or two different ones of one config and seed.
    """
    found: dict[tuple[str, int | None], RunRecord] = {}
    for name in names or [""]:
        if name.endswith(".json"):
            more = [read_record(name)]
        elif (folder / name).is_dir() or not folder.is_dir():
            more = read_records(folder / name)
        else:
            known = {str(path.parent.relative_to(folder)) for path in folder.rglob("*.json")}
            raise LTBenchError(f"{folder} has no record of {name!r}: {near_names(name, known)}")
        for record in more:
            if found.setdefault((record.name, record.seed), record) != record:
                raise LTBenchError(
                    f"two records of {record.name} with seed {record.seed} are named; leave one of them out"
                )
    if not found:
        raise LTBenchError(f"{folder} has no record; run a config, or name another --records folder")
    return list(found.values())


def class_accuracy(records: Sequence[RunRecord], window: int | None = None) -> pd.DataFrame:
    """The curves.

    Args:
        records: of one dataset and shot-group convention.
        window: an odd number of classes; None takes a tenth of them, rounded to an odd number.

    Returns:
        A row a config and class that is tested, sorted by config as given and then by training images,
        descending: ``method``, ``config``, ``seeds``, ``rank`` (from 1), ``class``, ``images``, ``group``,
        ``accuracy`` (in percent, mean over seeds) and ``smoothed``.

    Raises:
        LTBenchError: records of different datasets or conventions, records of one config that differ in more
            than their seed, or a window that is not odd or is larger than there are classes.
    """
    first = records[0]
    _check_alike(records)
    counts = torch.tensor(first.dataset["counts"])
    width = counts.numel() // 20 * 2 + 1 if window is None else window
    if width < 1 or width % 2 == 0 or width > counts.numel():
        raise LTBenchError(
            f"the smoothing window is an odd number of classes from 1 to {counts.numel()}, got {width}"
        )
    order = torch.argsort(counts, descending=True, stable=True)
    groups = shot_groups(counts, first.scores.convention)
    named: dict[str, list[RunRecord]] = {}
    for record in records:
        named.setdefault(record.name, []).append(record)
    labels = Counter(own[0].label for own in named.values())
    curves = []
    for name, own in named.items():
        check_poolable(own)
        label = own[0].label if labels[own[0].label] == 1 else f"{own[0].label} ({name})"
        accuracy = mean_accuracy(own)[order]
        curves.append(
            pd.DataFrame(
                {
                    "method": label,
                    "config": name,
                    "seeds": len(own),
                    "rank": range(1, counts.numel() + 1),
                    "class": order.numpy(),
                    "images": counts[order].numpy(),
                    "group": [GROUPS[group] for group in groups[order].tolist()],
                    "accuracy": accuracy.numpy(),
                    "smoothed": smoothed(accuracy, width).numpy(),
                }
            )
        )
    return pd.concat(curves, ignore_index=True).dropna(subset="accuracy", ignore_index=True)


def mean_accuracy(records: Sequence[RunRecord]) -> Tensor:
    """(C,) float64: each class's accuracy, mean over records; NaN for a class without a test sample."""
    per_class = [
        [float("nan") if value is None else value for value in record.scores.per_class] for record in records
    ]
    return torch.tensor(per_class, dtype=torch.float64).mean(dim=0)


def smoothed(values: Tensor, window: int) -> Tensor:
    """The mean over the ``window`` neighbours of each value, of those that there are and are not NaN.

    Args:
        values: (C,) float64.
        window: odd.

    Returns:
        (C,) float64; NaN where all neighbours are.
    """
    known = ~values.isnan()
    both = torch.stack([values.nan_to_num(0.0), known.to(values)])
    total, number = F.avg_pool1d(both[:, None], window, stride=1, padding=window // 2)[:, 0]
    return total / number


def _check_alike(records: Sequence[RunRecord]) -> None:
    first = records[0]
    for other in records[1:]:
        if other.dataset["identity"] != first.dataset["identity"]:
            raise LTBenchError(
                f"{first.name} is of {first.dataset['name']} and {other.name} of other data "
                f"({other.dataset['name']}), whose classes do not compare; name records of one dataset"
            )
        if other.scores.convention != first.scores.convention:
            raise LTBenchError(
                f"{first.name} is scored under the convention {first.scores.convention!r} and {other.name} "
                f"under {other.scores.convention!r}; name records of one convention"
            )
