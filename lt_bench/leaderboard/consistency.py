"""Whether published figures agree with themselves.

On a balanced test set the group accuracies weighted by their class counts give the overall one.
Some published rows miss that by more than rounding can explain; a table that shows them says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from lt_bench.evaluation.shots import GROUPS
from lt_bench.leaderboard.spec import Section

TOLERANCE = 0.5  # percentage points


def weighted_overall(values: Mapping[str, float], class_counts: Mapping[str, int]) -> float | None:
    """The overall accuracy that group accuracies imply; None where one of them is not there."""
    groups = [name for name in GROUPS if class_counts[name]]
    if any(name not in values for name in groups):
        return None
    total = sum(values[name] * class_counts[name] for name in groups)
    return total / sum(class_counts[name] for name in groups)


def disagreements(
    section: Section, class_counts: Mapping[str, int] | None, tolerance: float = TOLERANCE
) -> list[tuple[str, float, float]]:
    """Rows whose published overall differs from what their groups imply by more than ``tolerance``.

    Args:
        section: the rows.
        class_counts: classes in each shot group; None where they are not known: nothing is checked.
        tolerance: in percentage points.

    Returns:
        (label, published overall, implied overall) of each such row.
    """
    found = []
    for row in section.rows:
        if row.published is None or class_counts is None or "overall" not in row.published.values:
            continue
        implied = weighted_overall(row.published.values, class_counts)
        overall = row.published.values["overall"]
        if implied is not None and abs(overall - implied) > tolerance:
            found.append((row.label, overall, implied))
    return found
