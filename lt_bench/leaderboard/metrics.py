"""What a table can show of a record: the scores that it holds, and accuracy under shifted test data.

A record has no score for a shifted test distribution (:mod:`lt_bench.evaluation.shifted`): it follows from
the per-class accuracies and the training counts, as shot groups do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.report import Scores
from lt_bench.evaluation.shifted import SHIFTS, expected_accuracy, shifted_distribution

# The scores of a record, with their headings. CSV and JSON hold all of them.
METRICS: Mapping[str, str] = {
    "overall": "Overall",
    "mean_class": "Class mean",
    "many": "Many",
    "medium": "Medium",
    "few": "Few",
    "worst_class": "Worst class",
    "macro_f1": "Macro-F1",
    "ece": "ECE",
}
# Test distributions, with their headings: ``forward-50`` is "Forward 50".
SHIFTED: Mapping[str, str] = {name: name.capitalize().replace("-", " ") for name in SHIFTS}
HEADINGS: Mapping[str, str] = {**METRICS, **SHIFTED}


def held(shown: Sequence[str]) -> tuple[str, ...]:
    """The metrics that a table's files hold: all scores, and the shifted distributions that it shows."""
    return (*METRICS, *(metric for metric in SHIFTED if metric in shown))


def value_of(record: RunRecord, scores: Scores, metric: str) -> float | None:
    """A metric of a record, in percent.

    Args:
        record: the record.
        scores: its scores under the convention of the table.
        metric: a key of :data:`HEADINGS`.

    Returns:
        None where the record has no such class, or was made without logits.
    """
    if metric in METRICS:
        value: float | None = getattr(scores, metric)
        return value
    distribution = shifted_distribution(torch.tensor(record.dataset["counts"]), metric)
    accuracies = [float("nan") if value is None else value for value in scores.per_class]
    return float(expected_accuracy(torch.tensor(accuracies, dtype=torch.float64), distribution))
