"""What a method costs: its training time in that of another, plain.

Seconds are of a machine and of what else ran on it. So they are compared seed by seed, and only between runs
whose stages were trained on one kind of processor or device with as many threads. The time is that of stage 1
and of the classifier; evaluation, and the stage 1 of a method's teachers, are not in it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lt_bench.evaluation.environment import PLACE
from lt_bench.evaluation.record import RunRecord
from lt_bench.leaderboard.table import MEASURED, TableRow


def with_costs(rows: Sequence[TableRow], unit: str | None) -> list[TableRow]:
    """The rows with their costs.

    Args:
        rows: of one section.
        unit: the config whose time is 1; None for no costs.
    """
    theirs = _seconds(next((row for row in rows if unit is not None and row.config == unit), None))
    costed = []
    for row in rows:
        ours = _seconds(row)
        ratios = [ours[run] / theirs[run] for run in sorted(ours.keys() & theirs.keys())]
        cost = math.fsum(ratios) / len(ratios) if ratios else None
        costed.append(dataclasses.replace(row, cost=cost))
    return costed


def _seconds(row: TableRow | None) -> dict[tuple[Any, ...], float]:
    """Training time by seed and environment."""
    if row is None or row.state != MEASURED:
        return {}
    found = {}
    for record in row.records:
        seconds = sum(record.stage_seconds.get(stage, 0.0) for stage in ("stage1", "classifier"))
        if seconds > 0:
            found[(record.seed, *_where(record))] = seconds
    return found


def _where(record: RunRecord) -> tuple[Any, ...]:
    """Where the classifier was fitted and where stage 1 was trained, which may have been in other calls."""
    calls = (record.stage1 or {}).get("trained_by") or ()
    # A stage 1 of an earlier version does not say where: it is taken to be where the classifier was fitted.
    trained = {_place(call["environment"]) for call in calls if "environment" in call}
    return _place(record.environment), frozenset(trained or {_place(record.environment)})


def _place(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(environment.get(key) for key in PLACE)
