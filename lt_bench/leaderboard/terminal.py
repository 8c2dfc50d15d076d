"""The table that ends a run, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.shots import GROUPS
from lt_bench.leaderboard.statistics import estimate
from lt_bench.timing import STAGE1_PARTS, STAGE2_PARTS

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
        # A label is a person's words: its brackets are no markup.
        label = escape(label)
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


def stage1_times(records: Sequence[RunRecord]) -> dict[str, Table]:
    """Where the time of every stage 1 went, by its identity: seconds, share and seconds an epoch.

    Args:
        records: of runs; those whose parts were not measured are left out.
    """
    tables: dict[str, Table] = {}
    # A record leaves out a pass for snapshots that it does not learn from: first those that have it.
    for record in sorted(records, key=lambda record: -len((record.stage_parts or {}).get("stage1") or {})):
        parts = (record.stage_parts or {}).get("stage1")
        if parts is None or record.stage1 is None or record.stage1["identity"] in tables:
            continue
        epochs, total = record.stage1["epochs"], sum(parts.values())
        table = Table(title=f"stage 1 {record.stage1['identity']}: {_clock(record)}")
        table.add_column("Part", no_wrap=True)
        for heading in ("Seconds", "Share", "An epoch"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        shown = [*STAGE1_PARTS, *(name for name in parts if name not in STAGE1_PARTS)]
        for name in shown:
            if name in parts:
                _add_time(table, name, parts[name], total, epochs, STAGE1_PARTS.get(name, ""))
        _add_time(table, "all", total, total, epochs, f"{epochs} epochs")
        if record.teachers:
            before = (f"{one['name']} {one['seconds']:.2f} s" for one in record.teachers.values())
            table.caption = escape(f"trained before, not in these: {', '.join(before)}")
        tables[record.stage1["identity"]] = table
    return tables


def _add_time(table: Table, name: str, seconds: float, total: float, epochs: int, what: str) -> None:
    share = f"{100 * seconds / total:.1f}%" if total else "-"
    table.add_row(name, f"{seconds:.2f}", share, f"{seconds / epochs:.3f}", what)


def stage2_times(records: Sequence[RunRecord]) -> Table:
    """Where the time of every classifier went, in seconds.

    Args:
        records: at least one; those whose parts were not measured have empty cells.
    """
    table = Table(title=f"stage 2, seconds: {_clock(records[0])}")
    table.add_column("Run", no_wrap=True)
    for name in STAGE2_PARTS:
        table.add_column(name, justify="right")
    table.add_column("all", justify="right")
    for record in records:
        parts = (record.stage_parts or {}).get("stage2") or {}
        cells = [f"{parts[name]:.2f}" if name in parts else "" for name in STAGE2_PARTS]
        whole = f"{sum(parts.values()):.2f}" if parts else ""
        table.add_row(escape(f"{record.label} seed {record.seed}"), *cells, whole)
    return table


def _clock(record: RunRecord) -> str:
    clocks = {"host": "by the host's clock", "cuda events": "by events of the device"}
    return clocks[record.stage_parts["clock"]] if record.stage_parts else "not measured"


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    pooled = estimate(known)
    if pooled.half_width is None:
        return f"{pooled.mean:.1f}"
    return f"{pooled.mean:.1f} ± {pooled.half_width:.1f}"
