"""A small, complete run record."""

from __future__ import annotations

import pytest
import torch

from lt_bench.evaluation.record import RunRecord
from lt_bench.evaluation.report import evaluate

COUNTS = (500, 120, 100, 50, 20, 5)


@pytest.fixture
def record() -> RunRecord:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % len(COUNTS)
    logits = torch.randn(len(labels), len(COUNTS), generator=generator)
    return RunRecord(
        kind="measured",
        name="toy_lt/plain",
        label="Plain",
        method={"representation": {"type": "plain"}, "classifier": None, "prediction": None},
        dataset={
            "name": "toy_lt",
            "identity": "0f" * 32,
            "num_classes": len(COUNTS),
            "sizes": {"train": sum(COUNTS), "val": None, "test": len(labels)},
            "counts": list(COUNTS),
            "facts": {"imbalance_factor": 100},
        },
        backbone="ResNet-32",
        protocol={
            "selection_rule": "nothing selected",
            "selection_split": None,
            "batch_norm": "eval",
            "checkpoint": "last",
        },
        seed=3,
        config={"stage1": {"epochs": 2, "betas": [0.9, 0.999]}},
        selected={},
        stage1={"identity": "ab", "epochs": 2, "recipe": "short", "recipe_epochs": 200},
        scores=evaluate(logits, labels, torch.tensor(COUNTS), "strict"),
        stage_seconds={"stage1": 1.25, "classifier": 0.5, "evaluation": 0.25},
        stage_parts={
            "clock": "host",
            "stage1": {"data": 0.25, "followers": 2.0, "other": 1.0},
            "stage2": {"features": 0.5, "other": 0.25},
        },
        peak_memory_bytes=None,
        code={"version": "0.1.0", "commit": None, "dirty": None},
        environment={"python": "3.12.0", "threads": 2},
        created="2026-01-31T09:30:00+00:00",
    )
