"""Every loss and sampling with one head goes with every classifier of the grid, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lt_bench.config import load_experiment
from lt_bench.config.composition import SEAMS
from lt_bench.data.digits import digits_lt
from lt_bench.engine.stage1 import untrained_head
from lt_bench.evaluation.record import read_record
from lt_bench.leaderboard.spec import Section, load_spec
from lt_bench.models.expert_head import ExpertHead
from lt_bench.run import finishing
from lt_bench.task import Task

SECTIONS = load_spec("digits_lt_grid").sections
CLASSIFIERS = ("kept", "crt", "lws", "tau_norm", "ncm", "breadcrumb")
TWO_EPOCHS = {"stage1.epochs": 2, "classifier_recipe.epochs": 2}
# Two snapshots of the rarest class, of 5 images.
SHORT_TRAILS = {"method.classifier.n_b": 10}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.reference.partition("/")[2])
def test_every_pair_trains_and_is_recorded(
    section: Section, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[Tensor] = []
    evaluate = finishing.evaluate

    def watching(logits: Tensor, labels: Tensor, *rest):
        scored.append(logits)
        return evaluate(logits, labels, *rest)

    monkeypatch.setattr(finishing, "evaluate", watching)
    experiments = [
        load_experiment(row.config, TWO_EPOCHS | (SHORT_TRAILS if "breadcrumb" in row.config else {}))
        for row in section.rows
    ]
    records = launch(*experiments)
    stages = {record.stage1["identity"] for _, record in records}
    assert len(stages) == 1, "the classifiers of a loss hang on one stage 1"
    assert len(scored) == len(records) == len(section.rows)
    assert all(logits.shape == (400, 10) and torch.isfinite(logits).all() for logits in scored)
    for (path, record), row in zip(records, section.rows, strict=True):
        assert read_record(path) == record
        assert (record.name, record.label) == (row.config, row.label)


def test_the_grid_has_every_loss_of_one_head_with_every_classifier() -> None:
    data = digits_lt()
    task = Task.of(data, "strict")
    wanted, refused = {}, []
    for path in Path(__file__).parents[2].glob("configs/digits_lt/*.py"):
        experiment = load_experiment(f"digits_lt/{path.stem}")
        method = experiment.config["method"]
        head = untrained_head(experiment.config, task)
        if all(method[seam] == SEAMS[seam] for seam in ("classifier", "prediction")):
            if isinstance(head, ExpertHead):
                continue
            wanted[experiment.name] = len(CLASSIFIERS)
            if not isinstance(head, nn.Linear):
                refused.append(experiment.name)
                wanted[experiment.name] -= 1  # tau_norm
    assert refused == ["digits_lt/ldam"]
    assert {section.reference: len(section.rows) for section in SECTIONS} == wanted
    for section in SECTIONS:
        methods = [load_experiment(row.config).config["method"] for row in section.rows]
        kinds = [method["classifier"]["type"] for method in methods]
        assert kinds == [
            kind for kind in CLASSIFIERS if kind != "tau_norm" or section.reference not in refused
        ]
        assert all(method["representation"] == methods[0]["representation"] for method in methods)
