"""The table that ends a run, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

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
    by_name: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        by_name.setdefault((record.dataset["name"], record.label), []).append(record)
    conventions = sorted({record.scores.convention for record in records})
    datasets = sorted({record.dataset["name"] for record in records})
    table = Table(title=f"{', '.join(datasets)}: test accuracy in %, {' and '.join(conventions)} shot groups")
    table.add_column("Method", no_wrap=True)
    for heading in ("Overall", "Many", "Medium", "Few", "ECE", "Seeds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (_, label), group in by_name.items():
        cells = [_cell([getattr(record.scores, name) for record in group]) for name in _SCORES]
        calibration = _cell([record.scores.ece for record in group])
        table.add_row(label, *cells, calibration, str(len(group)))
    return table


def _cell(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    pooled = estimate(known)
    if pooled.half_width is None:
        return f"{pooled.mean:.1f}"
    return f"{pooled.mean:.1f} ± {pooled.half_width:.1f}"
