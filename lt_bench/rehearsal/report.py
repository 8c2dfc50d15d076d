"""What a rehearsal found, as JSON and as tables for a terminal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from lt_bench.rehearsal.meter import Part


@dataclass(frozen=True)
class Check:
    """One thing that the harness states about its memory or its disk, measured.

    Attributes:
        statement: what must hold: ``measured`` is at most, or exactly, ``stated``.
        measured: bytes or a number.
        stated: the bound.
        exact: whether the two must be equal.
    """

    statement: str
    measured: int
    stated: int
    exact: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.measured == self.stated if self.exact else self.measured <= self.stated


@dataclass
class Report:
    """What was rehearsed, and what it took.

    Attributes:
        facts: dataset, sizes, settings, device.
        parts: seconds and peak memory of every part, measured.
        memory: bytes by what holds them, measured.
        disk: bytes by what they are, measured.
        checks: what was stated and what was measured.
        extrapolated: what was *not* run, computed from what was.
    """

    facts: dict[str, Any]
    parts: list[Part] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    extrapolated: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if not check.holds]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found = dataclasses.asdict(self)
        for told, check in zip(found["checks"], self.checks, strict=True):
            told["holds"] = check.holds
        return found


def tables(report: Report) -> list[Table]:
    """The report for a terminal: facts, parts, memory and disk, checks, and what was extrapolated."""
    facts = _pairs("Rehearsed", report.facts)
    parts = Table(title="Measured: time and peak memory of each part")
    on_device = any(part.peak_device is not None for part in report.parts)
    headings = ("Calls", "Seconds", "Seconds a call", "Peak resident")
    for heading in ("Part", *headings, *(["Peak on device"] if on_device else [])):
        parts.add_column(heading, justify="left" if heading == "Part" else "right", no_wrap=True)
    for part in report.parts:
        cells = [str(part.calls), f"{part.seconds:.2f}", f"{part.seconds / max(part.calls, 1):.4f}"]
        cells += [_size(part.peak_rss), *([_size(part.peak_device)] if on_device else [])]
        parts.add_row(part.name, *cells)
    held = _pairs(
        "Measured: memory and disk",
        {name: _size(size) for name, size in {**report.memory, **report.disk}.items()},
    )
    checks = Table(title="Stated and measured")
    for heading in ("Statement", "Measured", "", "Stated", ""):
        checks.add_column(heading, justify="left" if heading == "Statement" else "right")
    for check in report.checks:
        sign = "=" if check.exact else "<="
        told = "holds" if check.holds else "DOES NOT HOLD"
        checks.add_row(check.statement, f"{check.measured:,}", sign, f"{check.stated:,}", told)
    found = [facts, parts, held, checks]
    if report.extrapolated:
        found.append(_pairs("Extrapolated, not run", report.extrapolated))
    return found


def _pairs(title: str, values: dict[str, Any]) -> Table:
    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in values.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table


def _size(size: int | None) -> str:
    if size is None:
        return "not measured"
    return f"{size / 1e6:,.1f} MB"
