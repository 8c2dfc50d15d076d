"""Scoring any model's predictions under the same protocol, and entering them on a board."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lt_bench.arguments import check_seeds
from lt_bench.config import load_dataset, portable_dataset
from lt_bench.engine.data import build_data, described
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import code_version, describe_environment
from lt_bench.evaluation.external import read_predictions
from lt_bench.evaluation.record import RunRecord, write_record
from lt_bench.evaluation.report import evaluate, evaluate_predictions


@dataclass(frozen=True)
class Entry:
    """What the maker of a file of predictions says of it.

    Attributes:
        label: the method's name on the board.
        backbone: the backbone's name.
        seed: the seed of the run; None where it is unknown.
        selected_on: ``"val"`` or ``"test"`` where anything was chosen on it, else None.
    """

    label: str
    backbone: str = "not stated"
    seed: int | None = None
    selected_on: str | None = None


def score(
    file: Path,
    dataset: str,
    entry: Entry,
    *,
    options: Mapping[str, Any] | None = None,
    convention: str | None = None,
    records: Path | None = None,
) -> tuple[RunRecord, Path | None]:
    """Score a file of logits or predictions of a dataset's test split, in the split's order.

    Args:
        file: ``.npz`` or ``.csv``, see :mod:`lt_bench.evaluation.external`.
        dataset: name of a dataset config, such as ``cifar100_lt``.
        entry: what is said of the file.
        options: overrides of the dataset config, dotted keys.
        convention: shot groups; None takes the dataset config's.
        records: folder to enter the record in; None enters nothing.

    Returns:
        The record (of kind ``external``) and its path, if it was entered.

    Raises:
        LTBenchError: unknown dataset or convention, missing data, a file that does not fit, a negative
            seed, or another label's record filed under the same name.
    """
    if entry.seed is not None:
        check_seeds([entry.seed])
    config = load_dataset(dataset, options or {})
    data = build_data(config["dataset"])
    chosen = convention or config["convention"]
    given = read_predictions(file, len(data.test), data.num_classes)
    labels = data.test.labels
    if given.is_floating_point():
        scores = evaluate(given, labels, data.counts, chosen)
    else:
        scores = evaluate_predictions(given, None, labels, data.counts, chosen)
    rule = f"selected on {entry.selected_on}" if entry.selected_on else "not stated"
    record = RunRecord(
        kind="external",
        name=f"external/{Path(dataset).stem}/{_slug(entry.label)}",
        label=entry.label,
        method={},
        dataset=described(data),
        backbone=entry.backbone,
        protocol={
            "selection_rule": rule,
            "selection_split": entry.selected_on,
            "batch_norm": None,
            "checkpoint": "not stated",
        },
        seed=entry.seed,
        # With label and backbone: two labels may be filed under one name, and are not one method.
        config={
            "dataset": portable_dataset(config["dataset"]),
            "convention": chosen,
            "label": entry.label,
            "backbone": entry.backbone,
        },
        selected={},
        stage1=None,
        scores=scores,
        stage_seconds={},
        peak_memory_bytes=None,
        code=code_version(),
        environment=describe_environment(torch.device("cpu")),
    )
    return record, None if records is None else write_record(record, records)


def _slug(label: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_").lower()
    if not slug:
        raise LTBenchError(f"--label needs a letter or digit to be filed under, got {label!r}")
    return slug
