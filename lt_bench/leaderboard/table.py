"""A table that is ready to be shown: what every renderer gets.

Measured and published figures are different fields of a row, so a published one cannot end up in a
measured column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lt_bench.evaluation.record import RunRecord
from lt_bench.leaderboard.metrics import HEADINGS
from lt_bench.leaderboard.spec import Published, Section, TableSpec
from lt_bench.leaderboard.statistics import Difference, Estimate

MEASURED, NOT_RUN, EXTERNAL, PUBLISHED = "measured", "not run", "external", "published only"


@dataclass(frozen=True)
class Versus:
    """A row's overall accuracy against that of the section's reference.

    Attributes:
        difference: over the seeds that both have.
        seeds: those, ascending.
        adjusted_p: its p-value, adjusted for all comparisons of the section; None for a single seed.
    """

    difference: Difference
    seeds: tuple[int, ...]
    adjusted_p: float | None


@dataclass(frozen=True)
class TableRow:
    """One row, ready to be shown.

    Attributes:
        label: the method, without marks.
        config: the config's name; None for a published figure that nothing here measures.
        state: ``measured``, ``not run``, ``external`` or ``published only``.
        records: the records behind it, by seed.
        measured: by metric; None where there is no such class. Empty without records.
        published: published figures, or None.
        versus: against the section's reference; None for that itself, and without a common seed.
        cost: training time in that of the section's unit, see :mod:`lt_bench.leaderboard.cost`; None without
            a common seed and environment.
    """

    label: str
    config: str | None
    state: str
    records: tuple[RunRecord, ...]
    measured: dict[str, Estimate | None]
    published: Published | None
    versus: Versus | None = None
    cost: float | None = None

    @property
    def seeds(self) -> list[int]:
        """The seeds of its records, ascending."""
        return [record.seed for record in self.records if record.seed is not None]

    @property
    def selected_on_test(self) -> bool:
        """Whether a hyper-parameter was chosen on the test split."""
        return any(record.protocol["selection_split"] == "test" for record in self.records)

    @property
    def epochs(self) -> tuple[int, int] | None:
        """Epochs of stage 1 that were run and that its recipe asks for."""
        stage1 = self.records[0].stage1 if self.records else None
        return (stage1["epochs"], stage1["recipe_epochs"]) if stage1 else None

    @property
    def shown_label(self) -> str:
        """The label with what a reader must know: shorter schedule, external, chosen on test."""
        label = self.label
        if self.epochs is not None and self.epochs[0] < self.epochs[1]:
            label += f" ({self.epochs[0]} of {self.epochs[1]} epochs)"
        if self.state == EXTERNAL:
            label += " (external)"
        return label + (" †" if self.selected_on_test else "")


def cost_unit_of(rows: Sequence[TableRow], unit: str | None) -> str | None:
    """The label of the row of config ``unit``, where any other row has a cost."""
    if all(row.cost is None or row.config == unit for row in rows):
        return None
    return next(row.label for row in rows if row.config == unit)


@dataclass(frozen=True)
class TableSection:
    """One section, ready to be shown.

    Attributes:
        spec: what was asked for.
        rows: in the specification's order, records that no row names after them, external entries last.
        class_counts: classes in each shot group, where known.
        notes: sentences that state the protocol, for below the section.
    """

    spec: Section
    rows: tuple[TableRow, ...]
    class_counts: dict[str, int] | None
    notes: tuple[str, ...]

    @property
    def reference(self) -> str | None:
        """The label of the row that the others are compared with, where one could be."""
        if all(row.versus is None for row in self.rows):
            return None
        return next(row.label for row in self.rows if row.config == self.spec.reference)

    @property
    def cost_unit(self) -> str | None:
        """The label of the row whose training time is 1, where any other has a cost."""
        return cost_unit_of(self.rows, self.spec.cost_unit)

    @property
    def published_metrics(self) -> list[str]:
        """The metrics for which some row has a published figure."""
        return [
            metric
            for metric in HEADINGS
            if any(row.published and metric in row.published.values for row in self.rows)
        ]


@dataclass(frozen=True)
class Table:
    """A table, ready to be shown."""

    spec: TableSpec
    sections: tuple[TableSection, ...]
