"""Run records with chosen accuracies, and a small table that they fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.report import evaluate_predictions
from lt_bench.leaderboard.spec import TableSpec, parse_spec

COUNTS = (500, 101, 50, 5)
TESTED = 50


def scores_of(hits, convention="strict"):
    """Scores with ``hits`` of 50 right in each of four classes; the others go to the next class."""
    labels = torch.arange(4).repeat_interleave(TESTED)
    predictions = labels.clone().view(4, TESTED)
    for number, right in enumerate(hits):
        predictions[number, right:] = (number + 1) % 4
    confidence = torch.full_like(labels, 0.5, dtype=torch.float64)
    counts = torch.tensor(COUNTS)
    return evaluate_predictions(predictions.flatten(), confidence, labels, counts, convention)


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    def make(name="toy_lt/plain", seed=0, hits=(40, 30, 20, 10), **changes):
        record = RunRecord(
            kind="measured",
            name=name,
            label=name.split("/")[-1],
            method={},
            dataset={
                "name": "toy_lt",
                "identity": "ab" * 32,
                "num_classes": 4,
                "sizes": {"train": sum(COUNTS), "val": 40, "test": 4 * TESTED},
                "counts": list(COUNTS),
                "facts": {"imbalance_factor": 100},
            },
            backbone="small",
            protocol={
                "selection_rule": "nothing selected",
                "selection_split": None,
                "batch_norm": "eval",
                "checkpoint": "last",
            },
            seed=seed,
            config={"stage1": {"epochs": 20}},
            selected={},
            stage1={"identity": f"s{seed}", "epochs": 20, "recipe": "toy", "recipe_epochs": 20},
            scores=scores_of(hits),
            stage_seconds={},
            peak_memory_bytes=None,
            code={"version": "0.1.0", "commit": None, "dirty": None},
            environment={},
            created="2026-01-31T09:30:00+00:00",
        )
        return dataclasses.replace(record, **changes)

    return make


@pytest.fixture
def toy_spec() -> TableSpec:
    return parse_spec(
        {
            "name": "toy",
            "title": "Toy",
            "metrics": ["overall", "many", "medium", "few"],
            "open": True,
            "sections": [
                {
                    "title": "Toy-LT, small",
                    "dataset": "toy_lt",
                    "facts": {"imbalance_factor": 100},
                    "convention": "strict",
                    "source": "A paper, Table 1",
                    "evidence": "read at source",
                    "rows": [
                        {"label": "Plain", "config": "toy_lt/plain", "published": {"overall": 48}},
                        {"label": "τ-norm", "config": "toy_lt/tau_norm"},
                        {
                            "label": "cRT",
                            "config": "toy_lt/crt",
                            "published": {"overall": 51.25, "many": 60.0, "medium": 40, "few": 9},
                        },
                        {
                            "label": "CE, elsewhere",
                            "config": None,
                            "published": {"overall": 47.5},
                            "source": "Another paper",
                            "evidence": "quoted elsewhere",
                        },
                    ],
                }
            ],
        }
    )
