"""Table files: writing them, and checking that the records still give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lt_bench.evaluation.record import RunRecord, read_records
from lt_bench.files import write_atomically
from lt_bench.leaderboard.build import build_table
from lt_bench.leaderboard.render import RENDERERS, find_renderer
from lt_bench.leaderboard.spec import TableSpec, list_specs, load_spec

FORMATS = tuple(RENDERERS)


def write_table(
    spec: TableSpec,
    records: Iterable[RunRecord],
    folder: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Write ``<folder>/<table>.<format>`` for each format, atomically.

    Returns:
        The files, in the order of ``formats``.

    Raises:
        LTBenchError: an unknown format, records that cannot be pooled, an unwritable folder. All
            formats are rendered before the first file is written.
    """
    renderers = {form: find_renderer(form) for form in formats}
    table = build_table(spec, records)
    texts = {form: renderer(table) for form, renderer in renderers.items()}
    return [write_atomically(Path(folder, f"{spec.name}.{form}"), text) for form, text in texts.items()]


def check_tables(
    records_dir: str | os.PathLike[str],
    tables_dir: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Table files that are not, byte for byte, what the records give.

    Args:
        records_dir: the folder of all records.
        tables_dir: the folder of the tables.
        names: tables to check (names, or paths of specifications); None means all of this package.
        formats: formats to check.

    Returns:
        The files that differ or are missing; empty if all is well.

    Raises:
        LTBenchError: faulty records or specifications.
    """
    records = read_records(records_dir)
    differing = []
    for name in list_specs() if names is None else names:
        spec = load_spec(name)
        table = build_table(spec, records)
        for form in formats:
            path = Path(tables_dir, f"{spec.name}.{form}")
            expected = find_renderer(form)(table).encode()
            if not path.is_file() or path.read_bytes() != expected:
                differing.append(path)
    return differing
