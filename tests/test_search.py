"""Parameters are chosen on validation, by one rule, and the test split plays no part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lt_bench.cli import main
from lt_bench.commands.options import parse_grid
from lt_bench.errors import LTBenchError
from lt_bench.registry import METHODS
from lt_bench.run import finishing
from lt_bench.run import jobs as run_jobs
from lt_bench.search import RULE, search
from tests.short import SHORT

OPTIONS = {**SHORT, "stage1.epochs": 2}


def searched(
    folder: Path, grid: dict, seeds: tuple[int, ...] = (0, 1), replace: bool = False, **options
) -> tuple[dict, Path]:
    return search(
        "digits_lt/tau_norm",
        grid,
        seeds,
        options={**OPTIONS, **options},
        work_dir=folder / "work",
        out=folder / "searches",
        replace=replace,
        console=Console(quiet=True),
    )


def test_the_best_on_validation_is_chosen_and_stage_1_is_shared(tmp_path: Path) -> None:
    taus = [0.0, 1.0, 2.0]
    report, path = searched(tmp_path, {"method.classifier.tau": taus})
    means = [sum(point["mean_class"]) / 2 for point in report["points"]]
    assert len(set(means)) > 1
    assert report["chosen"] == {"method.classifier.tau": taus[means.index(max(means))]}
    assert report["rule"] == RULE and report["seeds"] == [0, 1]
    assert path == tmp_path / "searches" / "digits_lt" / "tau_norm.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(report))
    assert len(list((tmp_path / "work" / "stage1").iterdir())) == 2  # one a seed


def test_of_equals_the_first_is_chosen(tmp_path: Path) -> None:
    report, _ = searched(tmp_path, {"runtime.log_interval": [10, 20]}, (0,), **{"method.classifier.tau": 1.0})
    assert report["points"][0]["mean_class"] == report["points"][1]["mean_class"]
    assert report["chosen"] == {"runtime.log_interval": 10}


def test_the_test_split_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_bench.engine.stage2 import FrozenRepresentation

    original, read = FrozenRepresentation.features, []

    def features(self, split):
        read.append(split)
        return original(self, split)

    monkeypatch.setattr(FrozenRepresentation, "features", features)
    searched(tmp_path, {"method.classifier.tau": [0.5, 1.0]}, (0,))
    assert read and "test" not in read


def test_what_would_choose_on_the_test_split_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained where the classifier says so, else before it counts."""
    told = "chooses on the test split, which a search does not touch"
    options = {"method.classifier.select_on": "test"}
    with pytest.raises(LTBenchError, match=told):
        searched(tmp_path, {"runtime.log_interval": [5, 10]}, (0,), **options)
    assert not (tmp_path / "work").exists()
    original = finishing.fit_job

    def fit_job(job, representation, console):
        return dataclasses.replace(original(job, representation, console), chosen_on="test")

    monkeypatch.setattr("lt_bench.search.fit_job", fit_job)
    with pytest.raises(LTBenchError, match=told):
        searched(tmp_path, {"runtime.log_interval": [5, 10]}, (0,))
    assert METHODS.get("sade_aggregated").select_on == "test"


def test_the_report_of_another_search_is_not_written_over(tmp_path: Path) -> None:
    grid = {"method.classifier.tau": [0.0, 1.0]}
    _, path = searched(tmp_path, grid, (0,))
    first = path.read_text()
    for changed in (
        lambda: searched(tmp_path, {"method.classifier.tau": [0.0, 2.0]}, (0,)),
        lambda: searched(tmp_path, grid, (1,)),
        lambda: searched(tmp_path, grid, (0,), **{"stage1.epochs": 1}),
        lambda: searched(tmp_path, grid, (0,), **{"dataset.imbalance_factor": 4}),
    ):
        with pytest.raises(LTBenchError, match="is the report of another search"):
            changed()
        assert path.read_text() == first
    searched(tmp_path, grid, (0,))
    searched(tmp_path, {"method.classifier.tau": [0.0, 2.0]}, (0,), replace=True)
    assert json.loads(path.read_text())["grid"] == {"method.classifier.tau": [0.0, 2.0]}
    path.write_text("{")
    with pytest.raises(LTBenchError, match="is no report of a search"):
        searched(tmp_path, grid, (0,))


def test_a_dataset_without_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="chooses on validation, which digits_lt lacks"):
        searched(tmp_path, {"method.classifier.tau": [0.5, 1.0]}, **{"dataset.val_per_class": 0})


def test_points_with_other_snapshots_are_not_scored_on_one_points(tmp_path: Path) -> None:
    grid = {"snapshots.capture": ["training_forward", "epoch_end"]}
    with pytest.raises(LTBenchError, match=r"share a stage 1, but ask for snapshots\.capture"):
        search(
            "digits_lt/breadcrumb_weak",
            grid,
            (0,),
            options={**OPTIONS, "stage1.epochs": 5},
            work_dir=tmp_path / "work",
            out=tmp_path / "searches",
            console=Console(quiet=True),
        )


def test_points_share_their_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    build = run_jobs.build_data
    monkeypatch.setattr(run_jobs, "build_data", lambda cfg: read.append(cfg) or build(cfg))
    searched(tmp_path, {"method.classifier.tau": [0.0, 1.0, 2.0]})
    assert len(read) == 1


def test_a_key_of_the_grid_is_no_option(tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match=r"both set method\.classifier\.tau; give it once"):
        searched(tmp_path, {"method.classifier.tau": [0.0, 1.0]}, **{"method.classifier.tau": 2.0})


def test_grids() -> None:
    assert parse_grid(["a.b=1,2.5,x", "c=true,none"]) == {"a.b": [1, 2.5, "x"], "c": [True, None]}
    assert parse_grid(["a=[1,2],[3]"]) == {"a": [[1, 2], [3]]}
    assert parse_grid(["a=[{'b':1,'c':(2,3)}],[]"]) == {"a": [[{"b": 1, "c": (2, 3)}], []]}
    for wrong in (["a"], ["a=1"], ["a=1,"], ["=1,2"]):
        with pytest.raises(LTBenchError, match="two values or more"):
            parse_grid(wrong)
    with pytest.raises(LTBenchError, match="twice"):
        parse_grid(["a=1,2", "a=3,4"])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.set_num_threads(1)
    options = [f"{key}={value}" for key, value in OPTIONS.items()]
    folders = ["--work-dir", str(tmp_path / "work"), "--out", str(tmp_path)]
    grid = ["--grid", "method.prediction.tau=0.5,1", "--cfg-options", *options]
    assert main(["search", "digits_lt/logit_adjusted", *grid, *folders]) == 0
    assert "chosen" in capsys.readouterr().out
    grid[1] = "method.prediction.taw=0.5,1"
    assert main(["search", "digits_lt/logit_adjusted", *grid, *folders]) == 2
    assert "unknown key method.prediction.taw" in capsys.readouterr().err


def test_points_of_one_stage_1_are_scored_on_their_own_validation_images(tmp_path: Path) -> None:
    """Test transforms are no part of stage 1's identity, yet of what is validated on."""
    plain = [{"type": "batch_normalize", "mean": [4.88], "std": [6.02]}]
    dark = [{"type": "batch_normalize", "mean": [40.0], "std": [6.02]}]
    fixed = {"method.classifier.tau": 1.0}
    both, _ = searched(tmp_path, {"test_transforms": [plain, dark]}, (0,), **fixed)
    assert len(list((tmp_path / "work" / "stage1").iterdir())) == 1
    for point, transforms in zip(both["points"], (plain, dark), strict=True):
        alone, _ = searched(tmp_path, {"test_transforms": [transforms]}, (0,), replace=True, **fixed)
        assert alone["points"][0]["mean_class"] == point["mean_class"]
    assert both["points"][0]["mean_class"] != both["points"][1]["mean_class"]
