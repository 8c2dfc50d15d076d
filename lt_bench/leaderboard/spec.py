"""Table specifications: which rows a table has, which config fills each, and what was published.

A specification is a JSON file. Those of this package lie in ``specs/``; a user's own is given by
its path. Adding a table is adding a file.

    {"name": "table1", "title": "...", "metrics": ["overall", "many", "medium", "few"],
     "open": false,                                 whether it takes records that no row names
     "elsewhere": ["table1_grid"],                  but not those that a row of these tables names
     "sections": [
       {"title": "ImageNet-LT, ResNet-10", "dataset": "imagenet_lt",
        "facts": {"imbalance_factor": 100},         facts of the dataset that a record must have
        "convention": "paper",                      shot groups of the section
        "class_counts": {"many": 385, "medium": 469, "few": 146},
        "reference": "imagenet_lt/crt_r10",        the row that the others' overall is compared with
        "cost_unit": "imagenet_lt/plain_r10",      the row whose training time is 1
        "source": "...", "evidence": "...",         of published figures, unless a row has its own
        "rows": [
          {"label": "cRT", "config": "imagenet_lt/crt_r10", "published": {"overall": 41.4}}]}]}

``metrics`` are scores of a record or test distributions such as ``backward-50``
(:mod:`lt_bench.leaderboard.metrics`). ``facts``, ``class_counts``, ``reference``, ``cost_unit``, ``open``,
``elsewhere`` and all that concerns published figures may be left out. A row whose ``config`` is null is a
published figure that nothing here measures.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from lt_bench.errors import LTBenchError, near_names
from lt_bench.evaluation.shots import GROUPS, find_convention
from lt_bench.leaderboard.metrics import HEADINGS

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Published:
    """Published figures, in percent.

    Attributes:
        values: by metric, as published.
        source: where they stand.
        evidence: whether they were read there or quoted elsewhere.
    """

    values: dict[str, float]
    source: str
    evidence: str


@dataclass(frozen=True)
class Row:
    """One method of a section."""

    label: str
    config: str | None
    published: Published | None


@dataclass(frozen=True)
class Section:
    """Rows that are compared: one dataset, one backbone, one convention.

    Attributes:
        title: its heading.
        dataset: the dataset's name, by which records that no row names are found.
        convention: the shot-group convention that measured figures are computed under.
        rows: in their order.
        facts: facts of the dataset that a record must have to stand here.
        class_counts: classes in each shot group, where known without a record.
        reference: the config that the other rows' overall accuracy is compared with, over the seeds that
            both have; None for no such column.
        cost_unit: the config whose training time the others' is given in; None for no such column.
    """

    title: str
    dataset: str
    convention: str
    rows: tuple[Row, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    class_counts: dict[str, int] | None = None
    reference: str | None = None
    cost_unit: str | None = None


@dataclass(frozen=True)
class TableSpec:
    """A table.

    Attributes:
        name: its file name without suffix.
        title: its heading.
        metrics: the metrics shown, keys of :data:`lt_bench.leaderboard.metrics.HEADINGS`.
        open: whether it takes records that no row names: other methods' runs and external entries.
        elsewhere: names of tables of this package; what their rows name, an open table leaves to them.
        sections: in their order.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    open: bool
    elsewhere: tuple[str, ...]
    sections: tuple[Section, ...]


def list_specs() -> list[str]:
    """Names of the tables that this package specifies, sorted."""
    folder = resources.files(__package__) / "specs"
    return sorted(
        entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")
    )


def load_spec(name: str | os.PathLike[str]) -> TableSpec:
    """A specification of this package by its name, or a user's own by its path.

    Raises:
        LTBenchError: no such table or file, or a specification with a fault.
    """
    text = os.fspath(name)
    if text.endswith(".json"):
        where = text
        try:
            content = Path(text).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise LTBenchError(f"the table specification {where} cannot be read: {reason}") from error
    else:
        if text not in list_specs():
            raise LTBenchError(
                f"unknown table {text!r}: {near_names(text, list_specs())}; "
                "a table of your own is given by the path of its .json file"
            )
        where = f"{text}.json"
        content = (resources.files(__package__) / "specs" / where).read_text(encoding="utf-8")
    try:
        return parse_spec(json.loads(content))
    except json.JSONDecodeError as error:
        raise LTBenchError(
            f"the table specification {where} is not JSON: {error.msg} in line {error.lineno}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise LTBenchError(f"the table specification {where} is no JSON to be read: {error}") from error
    except LTBenchError as error:
        raise LTBenchError(f"the table specification {where} cannot be used: {error}") from error


def parse_spec(content: Any) -> TableSpec:
    """Check a specification's content.

    Raises:
        LTBenchError: a missing, unknown or ill-typed key, an unknown metric or convention.
    """
    _check_keys(
        content,
        "the table",
        required={"name": str, "title": str, "metrics": list, "sections": list},
        optional={"open": bool, "elsewhere": list},
    )
    if not _NAME.fullmatch(content["name"]):
        raise LTBenchError(f"a table's name is a plain file name, got {content['name']!r}")
    for what in ("metrics", "sections"):
        if not content[what]:
            raise LTBenchError(f"the table needs at least one of its {what!r}")
    _check_metrics(content["metrics"], "the table")
    for name in content.get("elsewhere", ()):
        if name not in list_specs():
            raise LTBenchError(f"elsewhere: unknown table {name!r}: {near_names(str(name), list_specs())}")
    return TableSpec(
        name=content["name"],
        title=content["title"],
        metrics=tuple(content["metrics"]),
        open=content.get("open", False),
        elsewhere=tuple(content.get("elsewhere", ())),
        sections=tuple(_parse_section(section) for section in content["sections"]),
    )


def _parse_section(content: Any) -> Section:
    _check_keys(
        content,
        "a section",
        required={"title": str, "dataset": str, "convention": str, "rows": list},
        optional={
            "facts": dict,
            "class_counts": dict,
            "reference": str,
            "cost_unit": str,
            "source": str,
            "evidence": str,
        },
    )
    where = f"section {content['title']!r}"
    find_convention(content["convention"])
    counts = content.get("class_counts")
    if counts is not None and not (
        set(counts) == set(GROUPS)
        and all(type(size) is int and size >= 0 for size in counts.values())
        and sum(counts.values()) > 0
    ):
        raise LTBenchError(f"{where}: class_counts needs a number of classes for many, medium, few")
    rows = []
    for row in content["rows"]:
        _check_keys(
            row,
            f"a row of {where}",
            required={"label": str, "config": (str, type(None))},
            optional={"published": dict, "source": str, "evidence": str},
        )
        rows.append(Row(row["label"], row["config"], _parse_published(row, content, where)))
    for key in ("reference", "cost_unit"):
        if content.get(key) is not None and content[key] not in [row.config for row in rows]:
            raise LTBenchError(f"{where}: its {key} {content[key]!r} is the config of none of its rows")
    return Section(
        title=content["title"],
        dataset=content["dataset"],
        convention=content["convention"],
        rows=tuple(rows),
        facts=content.get("facts", {}),
        class_counts=counts,
        reference=content.get("reference"),
        cost_unit=content.get("cost_unit"),
    )


def _parse_published(row: Mapping[str, Any], section: Mapping[str, Any], where: str) -> Published | None:
    values = row.get("published")
    if not values:
        return None
    _check_metrics(values, f"row {row['label']!r}")
    for metric, value in values.items():
        if type(value) not in (int, float) or not 0 <= value <= 100:
            raise LTBenchError(
                f"{where}, row {row['label']!r}: published {metric} must be a percentage, got {value!r}"
            )
    cited = {key: row.get(key, section.get(key)) for key in ("source", "evidence")}
    for key, value in cited.items():
        if not value:
            raise LTBenchError(f"{where}, row {row['label']!r}: published figures need their {key!r}")
    numbers = {metric: float(value) for metric, value in values.items()}
    return Published(numbers, cited["source"], cited["evidence"])


def _check_metrics(names: Any, where: str) -> None:
    for name in names:
        if not isinstance(name, str) or name not in HEADINGS:
            raise LTBenchError(f"{where}: unknown metric {name!r}: {near_names(str(name), HEADINGS)}")


def _check_keys(
    content: Any,
    where: str,
    *,
    required: Mapping[str, type | tuple[type, ...]],
    optional: Mapping[str, type],
) -> None:
    if not isinstance(content, dict):
        raise LTBenchError(f"{where} must be a JSON object, got {content!r:.60}")
    for key in required:
        if key not in content:
            raise LTBenchError(f"{where} lacks {key!r}")
    types = {**required, **optional}
    for key, value in content.items():
        if key not in types:
            raise LTBenchError(f"{where} has the unknown key {key!r}: {near_names(key, types)}")
        if not isinstance(value, types[key]):
            raise LTBenchError(f"{where}: {key!r} is of the wrong type, got {value!r:.60}")
