"""A searched value in a config is the one that its committed report chose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_bench.config import load_experiment
from lt_bench.search import RULE

SEARCHES = Path(__file__).parents[2] / "leaderboards" / "searches"
REPORTS = sorted(SEARCHES.glob("*/*.json"))


@pytest.mark.parametrize("path", REPORTS, ids=[f"{path.parent.name}/{path.stem}" for path in REPORTS])
def test_the_config_has_the_chosen_value(path: Path) -> None:
    report = json.loads(path.read_text())
    assert report["rule"] == RULE and report["code"]["commit"] and not report["code"]["dirty"]
    means = [sum(point["mean_class"]) / len(report["seeds"]) for point in report["points"]]
    assert report["points"][means.index(max(means))]["values"] == report["chosen"]
    config = load_experiment(report["config"]).config
    for key, value in report["chosen"].items():
        found = config
        for part in key.split("."):
            found = found[part]
        assert found == value
