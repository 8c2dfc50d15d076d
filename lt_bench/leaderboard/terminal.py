"""The table that ends a run, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.shots import GROUPS
from lt_bench.leaderboard.statistics import estimate

_SCORES = ("overall", *GROUPS)


def result_table(records: Sequence[RunRecord]) -> Table:
    """Overall, many, medium and few of every config, in percent, pooled over the seeds given.

    Args:
        records: at least one.
    """
    by_name: dict[str, list[RunRecord]] = {}
    for record in records:
        by_name.setdefault(record.name, []).append(record)
    labels = Counter(group[0].label for group in by_name.values())
    conventions = sorted({record.scores.convention for record in records})
    datasets = sorted({record.dataset["name"] for record in records})
    table = Table(title=f"{', '.join(datasets)}: test accuracy in %, {' and '.join(conventions)} shot groups")
    table.add_column("Method", no_wrap=True)
    for heading in ("Overall", "Many", "Medium", "Few", "ECE", "Seeds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, group in by_name.items():
        label = group[0].label if labels[group[0].label] == 1 else f"{group[0].label} ({name})"
        cells = [_cell([getattr(record.scores, name) for record in group]) for name in _SCORES]
        calibration = _cell([record.scores.ece for record in group])
        table.add_row(label, *cells, calibration, str(len(group)))
    return table


def search_table(report: Mapping[str, Any]) -> Table:
    """Every point of a search with its validation accuracy, the chosen one marked.

    Args:
        report: see :func:`lt_bench.search.search`.
    """
    keys = list(report["grid"])
    table = Table(title=f"{report['config']}: mean class accuracy in % on validation")
    for key in keys:
        table.add_column(key.removeprefix("method."), justify="right")
    for heading in ("Validation", "Seeds", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in report["points"]:
        chosen = "chosen" if point["values"] == report["chosen"] else ""
        cells = [str(point["values"][key]) for key in keys]
        table.add_row(*cells, _cell(point["mean_class"]), str(len(point["mean_class"])), chosen)
    return table


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    pooled = estimate(known)
    if pooled.half_width is None:
        return f"{pooled.mean:.1f}"
    return f"{pooled.mean:.1f} ± {pooled.half_width:.1f}"
