"""A specification and run records, put together.

Records of one config are one row; its seeds are pooled. Pooling is refused where config or data differ
between them; where the code's version does, a note says so. A row without a record says "not run".
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import RunRecord
from lt_bench.leaderboard.cost import with_costs
from lt_bench.leaderboard.metrics import held, value_of
from lt_bench.leaderboard.notes import misfits, section_notes
from lt_bench.leaderboard.spec import Section, TableSpec, load_spec
from lt_bench.leaderboard.statistics import Estimate, estimate, holm, paired_difference
from lt_bench.leaderboard.table import (
    EXTERNAL,
    MEASURED,
    NOT_RUN,
    PUBLISHED,
    Table,
    TableRow,
    TableSection,
    Versus,
)

# The backbone of an external entry that names none.
UNSTATED = "not stated"


def build_table(spec: TableSpec, records: Iterable[RunRecord]) -> Table:
    """Fill a specification with what was measured.

    Args:
        spec: the table.
        records: any run records; those that no row asks for are ignored.

    Raises:
        LTBenchError: records of one row differ in more than their seed.
    """
    by_name: dict[str, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.name, record.seed or 0)):
        by_name[record.name].append(record)
    elsewhere = {
        row.config for name in spec.elsewhere for section in load_spec(name).sections for row in section.rows
    }
    others = {name: found for name, found in by_name.items() if spec.open and name not in elsewhere}
    sections = tuple(_build_section(section, spec.metrics, by_name, others) for section in spec.sections)
    return Table(spec, sections)


def _build_section(
    section: Section,
    shown: Sequence[str],
    by_name: Mapping[str, Sequence[RunRecord]],
    others: Mapping[str, Sequence[RunRecord]],
) -> TableSection:
    """A section; ``others`` are the records that it takes though none of its rows may name them."""
    rows, left_out = [], []
    for row in section.rows:
        found = [record for record in by_name.get(row.config or "", ()) if record.kind == "measured"]
        fitting = [record for record in found if not misfits(section, record)]
        # Two rows may name one config.
        left_out += [record for record in found if misfits(section, record) and record not in left_out]
        state = PUBLISHED if row.config is None else MEASURED if fitting else NOT_RUN
        rows.append(
            TableRow(
                label=row.label,
                config=row.config,
                state=state,
                records=tuple(fitting),
                measured=_pool(fitting, section.convention, shown),
                published=row.published,
            )
        )
    backbones = Counter(record.backbone for row in rows for record in row.records)
    rows += _further_rows(section, shown, others, max(backbones, key=lambda b: backbones[b], default=None))
    rows = with_costs(_compared(rows, section), section.cost_unit)
    known = [record for row in rows for record in row.records]
    class_counts = known[0].scores_under(section.convention).group_classes if known else section.class_counts
    return TableSection(
        spec=section,
        rows=tuple(rows),
        class_counts=class_counts,
        notes=tuple(section_notes(section, shown, rows, class_counts, left_out)),
    )


def _further_rows(
    section: Section, shown: Sequence[str], by_name: Mapping[str, Sequence[RunRecord]], backbone: str | None
) -> list[TableRow]:
    """Records on the section's dataset that no row names: other methods' runs, then external entries.

    A row of another backbone than most of the named ones says so.
    """
    named = {row.config for row in section.rows}
    rows = []
    for name, records in by_name.items():
        for kind, state in (("measured", MEASURED), ("external", EXTERNAL)):
            fitting = [
                record
                for record in records
                if record.kind == kind
                and not (kind == "measured" and name in named)
                and record.dataset["name"] == section.dataset
                and not misfits(section, record)
            ]
            if fitting:
                measured = _pool(fitting, section.convention, shown)
                label, own = fitting[0].label, fitting[0].backbone
                if backbone is not None and own not in (backbone, UNSTATED):
                    label = f"{label} ({own})"
                rows.append(TableRow(label, name, state, tuple(fitting), measured, None))
    return sorted(rows, key=lambda row: (row.state == EXTERNAL, row.label, row.config or ""))


def _pool(records: Sequence[RunRecord], convention: str, shown: Sequence[str]) -> dict[str, Estimate | None]:
    """Estimates over the seeds of one config, by metric.

    Raises:
        LTBenchError: the records differ in more than their seed.
    """
    if not records:
        return {}
    check_poolable(records)
    scores = [record.scores_under(convention) for record in records]
    pooled: dict[str, Estimate | None] = {}
    for metric in held(shown):
        values = [value_of(record, score, metric) for record, score in zip(records, scores, strict=True)]
        known = [value for value in values if value is not None]
        pooled[metric] = estimate(known) if len(known) == len(values) else None
    return pooled


def _compared(rows: Sequence[TableRow], section: Section) -> list[TableRow]:
    """The rows with their differences from the section's reference, which are adjusted together."""
    reference = next((row for row in rows if row.config == section.reference and row.records), None)
    if section.reference is None or reference is None:
        return list(rows)
    theirs = _overall_by_seed(reference, section.convention)
    differences = {}
    for index, row in enumerate(rows):
        ours = _overall_by_seed(row, section.convention)
        common = sorted(ours.keys() & theirs.keys())
        if row is not reference and common and _same_data(row, reference):
            pairs = [ours[seed] for seed in common], [theirs[seed] for seed in common]
            differences[index] = (paired_difference(*pairs), tuple(common))
    tested = [(index, d.p) for index, (d, _) in differences.items() if d.p is not None]
    adjusted = dict(zip((i for i, _ in tested), holm([p for _, p in tested]), strict=True))
    return [
        dataclasses.replace(row, versus=Versus(*differences[index], adjusted.get(index)))
        if index in differences
        else row
        for index, row in enumerate(rows)
    ]


def _overall_by_seed(row: TableRow, convention: str) -> dict[int, float]:
    return {r.seed: r.scores_under(convention).overall for r in row.records if r.seed is not None}


def _same_data(row: TableRow, reference: TableRow) -> bool:
    return row.records[0].dataset["identity"] == reference.records[0].dataset["identity"]


def check_poolable(records: Sequence[RunRecord]) -> None:
    """Refuse records of one config that differ in more than their seed.

    Raises:
        LTBenchError: they do, or one of several has no seed.
    """
    first = records[0]
    if len(records) > 1 and any(record.seed is None for record in records):
        raise LTBenchError(
            f"{len(records)} records are called {first.name} and one of them has no seed, so that they may "
            "be of one run; delete it, or enter it again with its --seed"
        )
    for other in records[1:]:
        difference = (
            "the dataset"
            if other.dataset["identity"] != first.dataset["identity"]
            else _first_difference(first.config, other.config)
        )
        if difference is None:
            continue
        raise LTBenchError(
            f"the records of {first.name} with seeds {first.seed} and {other.seed} differ in "
            f"{difference}, so their mean would mean nothing; run both with one config, or keep "
            "one of them in another folder"
        )


def _first_difference(first: Any, second: Any, where: str = "") -> str | None:
    """The first key, in order, in which two configs differ; None if they do not."""
    if first == second:
        return None
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            name = f"{where}.{key}".strip(".")
            if (key in first) != (key in second):
                return f"the config's {name} (only one has it)"
            found = _first_difference(first[key], second[key], name)
            if found is not None:
                return found
    return f"the config's {where} ({first!r:.40} and {second!r:.40})"
