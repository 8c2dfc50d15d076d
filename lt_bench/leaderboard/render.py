"""Tables as Markdown, CSV, JSON and LaTeX.

Every renderer is a pure function of the table: no date, no path, and fixed decimals, so that the
same records give the same bytes. Markdown and LaTeX show the specification's metrics; CSV and JSON
hold all scores besides, one line or object a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from lt_bench.errors import LTBenchError, near_names
from lt_bench.evaluation.shots import GROUPS
from lt_bench.leaderboard.metrics import HEADINGS, held
from lt_bench.leaderboard.statistics import SIGNIFICANT, Estimate
from lt_bench.leaderboard.table import NOT_RUN, Table, TableRow, TableSection, Versus

SHOWN_DECIMALS = 1
STORED_DECIMALS = 4
COST_DECIMALS = 2
NO_CLASS = "no such class"
NO_VALUE = "–"


def render(table: Table, form: str) -> str:
    """The table as text.

    Args:
        table: the table.
        form: a key of :data:`RENDERERS`: ``md``, ``csv``, ``json`` or ``tex``.

    Raises:
        LTBenchError: another format.
    """
    return find_renderer(form)(table)


def find_renderer(form: str) -> Callable[[Table], str]:
    """The renderer of a format.

    Raises:
        LTBenchError: there is none; the sentence names those there are.
    """
    if form not in RENDERERS:
        raise LTBenchError(f"unknown table format {form!r}: {near_names(form, RENDERERS)}")
    return RENDERERS[form]


def _shown(metric: str, value: Estimate | None) -> str:
    if value is None:
        return NO_CLASS if metric in GROUPS else NO_VALUE
    text = f"{value.mean:.{SHOWN_DECIMALS}f}"
    return text if value.half_width is None else f"{text} ± {value.half_width:.{SHOWN_DECIMALS}f}"


def _measured_cells(row: TableRow, metrics: Sequence[str]) -> list[str]:
    """One cell a metric and one for the number of seeds."""
    if not row.measured:
        first = NOT_RUN if row.state == NOT_RUN else NO_VALUE
        return [first, *[""] * len(metrics)]
    count = len(row.seeds)
    seeds = "(seed unknown)" if count == 0 else "(1 seed)" if count == 1 else f"{count} seeds"
    return [*(_shown(metric, row.measured[metric]) for metric in metrics), seeds]


def _versus_cells(row: TableRow, reference: str | None) -> list[str]:
    """The difference from the reference, where the section has such a column."""
    if reference is None:
        return []
    if row.versus is None:
        return [""]
    value, p = row.versus.difference.estimate, row.versus.adjusted_p
    # Adding 0 turns a rounded -0 into 0.
    text = f"{round(value.mean, SHOWN_DECIMALS) + 0.0:+.{SHOWN_DECIMALS}f}"
    if value.half_width is not None:
        text += f" ± {value.half_width:.{SHOWN_DECIMALS}f}"
    return [text + (" *" if p is not None and p < SIGNIFICANT else "")]


def _versus_header(reference: str | None) -> list[str]:
    return [] if reference is None else [f"− {reference}"]


def _cost_cells(row: TableRow, unit: str | None) -> list[str]:
    """The cost, where the section has such a column."""
    if unit is None:
        return []
    return ["" if row.cost is None else f"{row.cost:.{COST_DECIMALS}f}"]


def _cost_header(unit: str | None) -> list[str]:
    return [] if unit is None else [f"Cost (× {unit})"]


def _published_cells(row: TableRow, metrics: Sequence[str]) -> list[str]:
    values = row.published.values if row.published else {}
    return [repr(values[metric]) if metric in values else "" for metric in metrics]


def _in_cell(text: str) -> str:
    """Text for a cell of Markdown: on one line, its bars escaped."""
    return " ".join(text.splitlines()).replace("|", r"\|")


def to_markdown(table: Table) -> str:
    """GitHub-flavoured Markdown: one table a section, its notes as a list below it."""
    metrics = table.spec.metrics
    parts = [f"# {table.spec.title}"]
    for section in table.sections:
        published = section.published_metrics
        header = [
            "Method",
            *(HEADINGS[metric] for metric in metrics),
            "Seeds",
            *_versus_header(section.reference),
            *_cost_header(section.cost_unit),
            *(f"{HEADINGS[metric]}, published" for metric in published),
        ]
        cells = [
            [
                row.shown_label,
                *_measured_cells(row, metrics),
                *_versus_cells(row, section.reference),
                *_cost_cells(row, section.cost_unit),
                *_published_cells(row, published),
            ]
            for row in section.rows
        ]
        escaped = [[_in_cell(cell) for cell in line] for line in [header, *cells]]
        parts.append(f"## {section.spec.title}")
        parts.append(
            tabulate(
                escaped[1:],
                headers=escaped[0],
                tablefmt="pipe",
                disable_numparse=True,
                colalign=["left"] + ["right"] * (len(header) - 1),
            )
        )
        parts.append("\n".join(f"- {note}" for note in section.notes))
    return "\n\n".join(parts) + "\n"


def _rounded(value: float) -> float:
    return round(value, STORED_DECIMALS)


def _csv_line(table: Table, section: TableSection, row: TableRow) -> dict[str, str]:
    line = {
        "table": table.spec.name,
        "section": section.spec.title,
        "label": row.label,
        "config": row.config or "",
        "state": row.state,
        "seeds": " ".join(map(str, row.seeds)),
        "convention": section.spec.convention,
        "selected_on_test": str(row.selected_on_test).lower() if row.records else "",
        "epochs": str(row.epochs[0]) if row.epochs else "",
        "recipe_epochs": str(row.epochs[1]) if row.epochs else "",
    }
    for metric in held(table.spec.metrics):
        value = row.measured.get(metric)
        interval = value.half_width if value else None
        line[metric] = f"{value.mean:.{STORED_DECIMALS}f}" if value else ""
        line[f"{metric}_interval"] = "" if interval is None else f"{interval:.{STORED_DECIMALS}f}"
    if any(part.spec.reference for part in table.sections):
        line |= _versus_fields(row, section.spec.reference)
    if any(part.spec.cost_unit for part in table.sections):
        line["cost"] = "" if row.cost is None else f"{row.cost:.{STORED_DECIMALS}f}"
    published = row.published.values if row.published else {}
    for metric in HEADINGS:
        if any(metric in part.published_metrics for part in table.sections):
            line[f"published_{metric}"] = repr(published[metric]) if metric in published else ""
    line["source"] = row.published.source if row.published else ""
    line["evidence"] = row.published.evidence if row.published else ""
    return line


def _versus_fields(row: TableRow, reference: str | None) -> dict[str, str]:
    names = ("versus", "difference", "difference_interval", "difference_p", "difference_adjusted_p")
    if row.versus is None:
        return dict.fromkeys(names, "")
    found = row.versus.difference
    values = (found.estimate.mean, found.estimate.half_width, found.p, row.versus.adjusted_p)
    texts = ["" if value is None else f"{value:.{STORED_DECIMALS}f}" for value in values]
    return dict(zip(names, [reference or "", *texts], strict=True))


def to_csv(table: Table) -> str:
    """One line a row; ``<metric>_interval`` is the half-width of the 95% interval."""
    lines = [_csv_line(table, section, row) for section in table.sections for row in section.rows]
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n")


def _json_row(row: TableRow) -> dict[str, Any]:
    measured: dict[str, Any] | None = None
    if row.measured:
        measured = {
            metric: None
            if value is None
            else {
                "mean": _rounded(value.mean),
                "half_width": None if value.half_width is None else _rounded(value.half_width),
            }
            for metric, value in row.measured.items()
        }
    published: dict[str, Any] | None = None
    if row.published:
        published = {
            **row.published.values,
            "source": row.published.source,
            "evidence": row.published.evidence,
        }
    return {
        "label": row.label,
        "config": row.config,
        "state": row.state,
        "seeds": row.seeds,
        "selected": [record.selected for record in row.records],
        "selected_on_test": row.selected_on_test,
        "epochs": row.epochs[0] if row.epochs else None,
        "recipe_epochs": row.epochs[1] if row.epochs else None,
        "measured": measured,
        **({} if row.versus is None else {"versus": _json_versus(row.versus)}),
        **({} if row.cost is None else {"cost": _rounded(row.cost)}),
        "published": published,
    }


def _json_versus(versus: Versus) -> dict[str, Any]:
    found = versus.difference
    width = found.estimate.half_width
    return {
        "seeds": list(versus.seeds),
        "mean": _rounded(found.estimate.mean),
        "half_width": None if width is None else _rounded(width),
        "p": None if found.p is None else _rounded(found.p),
        "adjusted_p": None if versus.adjusted_p is None else _rounded(versus.adjusted_p),
    }


def to_json(table: Table) -> str:
    """Everything that the table knows."""
    content = {
        "name": table.spec.name,
        "title": table.spec.title,
        "metrics": list(table.spec.metrics),
        "sections": [
            {
                "title": section.spec.title,
                "dataset": section.spec.dataset,
                "convention": section.spec.convention,
                "class_counts": section.class_counts,
                **({} if section.spec.reference is None else {"reference": section.spec.reference}),
                **({} if section.spec.cost_unit is None else {"cost_unit": section.spec.cost_unit}),
                "rows": [_json_row(row) for row in section.rows],
                "notes": list(section.notes),
            }
            for section in table.sections
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


_GREEK = {
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "δ": r"$\delta$",
    "ε": r"$\epsilon$",
    "ζ": r"$\zeta$",
    "η": r"$\eta$",
    "θ": r"$\theta$",
    "ι": r"$\iota$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "ν": r"$\nu$",
    "ξ": r"$\xi$",
    "π": r"$\pi$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "υ": r"$\upsilon$",
    "φ": r"$\phi$",
    "χ": r"$\chi$",
    "ψ": r"$\psi$",
    "ω": r"$\omega$",
}
_TEX: Mapping[int, str] = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "±": r"$\pm$",
        **_GREEK,
        "†": r"$^\dagger$",
        "|": r"\textbar{}",
        "–": "--",
        "−": "$-$",
        "×": r"$\times$",
    }
)


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return (
        text.replace("<=", "≤")
        .replace(">=", "≥")
        .translate(_TEX)
        .translate({ord("≤"): r"$\le$", ord("≥"): r"$\ge$"})
    )


def to_latex(table: Table) -> str:
    r"""One ``booktabs`` tabular a section, notes below it; needs ``\usepackage{booktabs}``."""
    metrics = table.spec.metrics
    parts = []
    for section in table.sections:
        published = section.published_metrics
        compared = [*_versus_header(section.reference), *_cost_header(section.cost_unit)]
        width = len(metrics) + 1 + len(compared)
        groups = ["", rf"\multicolumn{{{width}}}{{c}}{{Measured}}"]
        rules = rf"\cmidrule(lr){{2-{width + 1}}}"
        if published:
            groups.append(rf"\multicolumn{{{len(published)}}}{{c}}{{Published}}")
            rules += rf" \cmidrule(lr){{{width + 2}-{width + 1 + len(published)}}}"
        names = ["Method", *(HEADINGS[metric] for metric in metrics), "Seeds"]
        names += map(escape_latex, compared)
        names += [HEADINGS[metric] for metric in published]
        lines = [
            f"% {table.spec.name}: {section.spec.title}",
            rf"\begin{{tabular}}{{l{'r' * (width + len(published))}}}",
            r"\toprule",
            " & ".join(groups) + r" \\",
            rules,
            " & ".join(names) + r" \\",
            r"\midrule",
        ]
        for row in section.rows:
            cells = [
                row.shown_label,
                *_measured_cells(row, metrics),
                *_versus_cells(row, section.reference),
                *_cost_cells(row, section.cost_unit),
                *_published_cells(row, published),
            ]
            line = " & ".join(map(escape_latex, cells)) + r" \\"
            # Behind \midrule and \\ these would begin an argument.
            lines.append("{}" + line if line.startswith(("[", "*")) else line)
        lines += [r"\bottomrule", r"\end{tabular}", ""]
        lines += [rf"\par\footnotesize {escape_latex(note)}" for note in section.notes]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "tex": to_latex,
}
