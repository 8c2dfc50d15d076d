"""The sentences below a table: seeds, convention, selection, schedule, sources, and what is amiss.

All of them are made from records and specification alone, so that the same records give the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.shots import GROUPS, find_convention
from lt_bench.leaderboard.consistency import TOLERANCE, disagreements
from lt_bench.leaderboard.metrics import SHIFTED
from lt_bench.leaderboard.spec import Section
from lt_bench.leaderboard.statistics import SIGNIFICANT
from lt_bench.leaderboard.table import EXTERNAL, TableRow, cost_unit_of

# Rows that a note names one by one where they are the most of a table.
MOST_NAMED = 12


def section_notes(
    section: Section,
    shown: Sequence[str],
    rows: Sequence[TableRow],
    class_counts: Mapping[str, int] | None,
    left_out: Sequence[RunRecord],
) -> list[str]:
    """What a reader must know to judge the section's figures.

    Args:
        section: its specification.
        shown: the metrics of its table.
        rows: its rows.
        class_counts: classes in each shot group, where known.
        left_out: records of its configs that have other facts than the section asks for.
    """
    measured = [row for row in rows if row.records]
    return [
        *(_measured_notes(measured) if measured else ["Measured: no record yet."]),
        _convention_note(section, class_counts),
        *_shift_notes(shown),
        *_comparison_notes(section, rows),
        *_cost_notes(section, rows),
        *_warning_notes(section, measured, left_out),
        *_published_notes(section, class_counts),
    ]


def misfits(section: Section, record: RunRecord) -> dict[str, Any]:
    """The facts of the record's dataset that differ from those the section asks for."""
    facts = record.dataset["facts"]
    return {name: facts.get(name) for name, value in section.facts.items() if facts.get(name) != value}


def _stated(said: Iterable[tuple[str, str]]) -> str:
    """What rows say of one matter: once if all agree, else each statement with who says it.

    What most rows of a long table say is said of "all other rows".

    Args:
        said: (statement, label of the row), in the order of rows.
    """
    who: dict[str, dict[str, None]] = {}
    for text, label in said:
        who.setdefault(text, {})[label] = None
    if len(who) < 2:
        return "".join(who)
    most = max(who, key=lambda text: len(who[text]))
    spared = most if len(who[most]) > MOST_NAMED else None
    return "; ".join(
        f"{text} ({'all other rows' if text == spared else ', '.join(labels)})"
        for text, labels in who.items()
    )


def _measured_notes(rows: Sequence[TableRow]) -> list[str]:
    spread = (
        "mean ± half-width of the 95% Student-t interval over seeds"
        if any(len(row.records) > 1 for row in rows)
        else "a single seed, hence no interval"
    )
    seeds = _stated((", ".join(map(str, row.seeds)) or "unknown", row.label) for row in rows)
    notes = [f"Measured on the test split, in percent: {spread}. Seeds: {seeds}."]
    matters: tuple[tuple[str, Callable[[RunRecord], str | None]], ...] = (
        ("Stage 1", _schedule),
        ("Selection", lambda record: record.protocol["selection_rule"]),
        ("Checkpoint", lambda record: record.protocol["checkpoint"]),
        ("Batch norm of the frozen backbone", lambda record: record.protocol["batch_norm"]),
    )
    for what, text_of in matters:
        said = [(text_of(record), row.label) for row in rows for record in row.records]
        stated = _stated((text, label) for text, label in said if text is not None)
        of = ", of the rows that have one" if any(text is None for text, _ in said) else ""
        if stated:
            notes.append(f"{what}{of}: {stated}.")
    return notes


def _schedule(record: RunRecord) -> str | None:
    stage1 = record.stage1
    return None if stage1 is None else f"{stage1['recipe']}, {stage1['epochs']} epochs"


def _convention_note(section: Section, class_counts: Mapping[str, int] | None) -> str:
    convention = find_convention(section.convention)
    note = f"Shot groups by training count t, convention {convention.name!r}: {convention.text}"
    if class_counts is not None:
        sizes = "/".join(str(class_counts[name]) for name in GROUPS)
        note += f"; {sizes} classes"
    return note + "."


def _shift_notes(shown: Sequence[str]) -> list[str]:
    if not any(metric in SHIFTED for metric in shown):
        return []
    return [
        "Forward F, backward F: accuracy to be expected on test data whose most frequent class has F times "
        "the images of the least frequent, on an exponential profile in the order of training counts or in "
        "its reverse: per-class accuracies weighted by it."
    ]


def _comparison_notes(section: Section, rows: Sequence[TableRow]) -> list[str]:
    compared = [row.versus for row in rows if row.versus is not None]
    if not compared:
        return []
    label = next(row.label for row in rows if row.config == section.reference)
    tests = sum(versus.adjusted_p is not None for versus in compared)
    note = f"− {label}: overall accuracy minus that of {label}, seed by seed over the seeds that both have"
    if tests:
        note += (
            f"; mean ± half-width of its 95% interval, * where Student's paired test gives p < {SIGNIFICANT} "
            f"after Holm's correction for {tests} comparisons"
        )
    return [f"{note}."]


def _cost_notes(section: Section, rows: Sequence[TableRow]) -> list[str]:
    label = cost_unit_of(rows, section.cost_unit)
    if label is None:
        return []
    return [
        f"Cost: seconds of stage 1, its teachers and the classifier over those of {label}, the mean over the "
        "seeds that both have from one kind of processor or device; by the wall clock, and without a pass "
        "for snapshots where none is learned from."
    ]


def _warning_notes(section: Section, rows: Sequence[TableRow], left_out: Sequence[RunRecord]) -> list[str]:
    notes = []
    if any(row.selected_on_test for row in rows):
        notes.append("† A hyper-parameter was chosen on the test split: the figure is optimistic.")
    passed = [row.label for row in rows if any(_has_own_pass(record) for record in row.records)]
    if passed:
        notes.append(
            "Snapshots are of a pass at the end of each epoch, not augmented, in eval mode, where training "
            f"does not show every image once and as it is: {', '.join(passed)}."
        )
    if any(row.state == EXTERNAL for row in rows):
        notes.append("External: predictions of a model that was not trained here, scored here.")
    mixed = [row.label for row in rows if len({_version(record) for record in row.records}) > 1]
    if mixed:
        which = "all rows" if len(mixed) == len(rows) else ", ".join(mixed)
        notes.append(f"Seeds of one row were measured by different versions of the code: {which}.")
    data: dict[str, list[str]] = {}
    for row in rows:
        data.setdefault(row.records[0].dataset["identity"], []).append(row.label)
    if len(data) > 1:
        parts = "; ".join(", ".join(labels) for labels in data.values())
        notes.append(f"Not comparable: these were measured on different data: {parts}.")
    for record in left_out:
        facts = ", ".join(
            f"{name} is {value} and not {section.facts[name]}"
            for name, value in misfits(section, record).items()
        )
        notes.append(f"Left out: {record.name}, seed {record.seed}: its {facts}.")
    return notes


def _has_own_pass(record: RunRecord) -> bool:
    """Whether the classifier learned from snapshots that the training forward did not give."""
    taken = record.method.get("notes", {}).get("snapshots", {})
    asked = record.config.get("snapshots", {}).get("capture")
    return "capture" in taken and taken["capture"] != asked


def _version(record: RunRecord) -> str:
    """The code that fitted and that which trained, as text to be compared."""
    trained = {
        json.dumps({key: call.get(key) for key in record.code}, sort_keys=True)
        for call in record.training_calls
    }
    return json.dumps([record.code, sorted(trained)], sort_keys=True)


def _published_notes(section: Section, class_counts: Mapping[str, int] | None) -> list[str]:
    sources = _stated(
        (f"{row.published.source}, {row.published.evidence}", row.label)
        for row in section.rows
        if row.published is not None
    )
    if not sources:
        return []
    notes = [f"Published: {sources}."]
    wrong = disagreements(section, section.class_counts or class_counts)
    if wrong:
        listed = "; ".join(
            f"{label}, {overall} published, {implied:.1f} implied" for label, overall, implied in wrong
        )
        notes.append(
            f"Published rows whose overall is more than {TOLERANCE} from their group means, "
            f"weighted by class counts: {listed}."
        )
    return notes
