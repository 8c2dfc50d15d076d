"""What a method costs: its training time in that of another, plain.

Seconds are of a machine and of what else ran on it. So they are compared seed by seed, and only between runs
whose stages were trained on one kind of processor or device with as many threads. The time is that of stage
1, of the stage 1s that it learned from, and of the classifier; evaluation is not in it.
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
    """Training time by seed and by where it was spent."""
    if row is None or row.state != MEASURED:
        return {}
    found = {}
    for record in row.records:
        seconds = sum(record.stage_seconds.get(stage, 0.0) for stage in ("stage1", "classifier"))
        seconds += sum(teacher["seconds"] for teacher in record.teachers.values())
        where = _where(record)
        if seconds > 0 and where is not None:
            found[record.seed, where] = seconds
    return found


def _where(record: RunRecord) -> tuple[Any, ...] | None:
    """Where the classifier was fitted, and where and by how many processes stage 1 and its teachers trained.

    None where that was done in several places: the seconds do not say how they are shared out.
    """
    # A call of an earlier version does not say where: it is taken to be where the classifier was fitted.
    trained = {
        (_place(call.get("environment", record.environment)), call.get("processes", 1))
        for call in record.training_calls
    }
    return (_place(record.environment), *trained) if len(trained) == 1 else None


def _place(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(environment.get(key) for key in PLACE)
