"""The rehearsal on images: whole runs on generated data."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from lt_bench.config.folders import find_config
from lt_bench.data.class_counts import ClassCounts, class_counts
from lt_bench.errors import LTBenchError
from lt_bench.rehearsal import ImageRehearsal, Report, rehearse_images
from lt_bench.snapshots.trail import Trail

CONFIGS = ["rehearsal/breadcrumb_weak", "rehearsal/breadcrumb_strong"]
SIZES = (40, 20, 10, 5, 2)


def rehearse(tmp_path: Path, configs: list[str] = CONFIGS, **settings: object) -> Report:
    counts = tmp_path / "counts.txt"
    counts.write_text("\n".join(map(str, SIZES)))
    asked = ImageRehearsal(work_dir=tmp_path, **settings)  # type: ignore[arg-type]
    given = class_counts(str(counts))
    return rehearse_images(given, str(counts), asked, configs, Console(quiet=True))


@pytest.mark.parametrize(("keep", "kept"), [(0, 0), (2, 2), ("all", 11)])
def test_whole_runs_on_one_stage_1(tmp_path: Path, keep: int, kept: int) -> None:
    report = rehearse(tmp_path, keep=keep)
    assert [part.name.partition(":")[0] for part in report.parts] == [
        "stage 1, with its snapshots",
        *["Weak Breadcrumb"] * 2,
        *["Strong Breadcrumb"] * 2,
    ]
    assert report.facts["epochs"] == 11
    rows, *_ = report.checks
    assert (rows.measured, rows.stated) == (39, 80)
    assert (f"of {kept} kept" in report.checks[-1].statement) and not report.failed
    assert (report.disk["snapshots on disk, at the end"] > 0) == (kept > 0)
    assert report.disk["all files of the run"] > report.disk["last checkpoint, with trails and Z^E"]
    assert [path.name for path in tmp_path.iterdir()] == ["counts.txt"], "what a rehearsal wrote is removed"


def test_a_trail_that_is_too_long_is_found(tmp_path: Path, monkeypatch) -> None:
    state = Trail.state_dict

    def padded(self: Trail) -> dict:
        held = state(self)
        return {**held, "features": held["features"].repeat(4, 1)}

    monkeypatch.setattr(Trail, "state_dict", padded)
    with pytest.raises(LTBenchError, match="saved trail's features"):
        rehearse(tmp_path)
    assert [check.measured for check in rehearse(tmp_path, CONFIGS[1:]).failed][:1] == [4 * 39]


def test_a_config_on_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="digits_lt/crt is a config on digits_lt; a rehearsal on images"):
        rehearse(tmp_path, ["digits_lt/crt"])


def own_config(tmp_path: Path, text: str) -> str:
    base = find_config("rehearsal/breadcrumb_weak").path.resolve()
    config = tmp_path / "own.py"
    config.write_text(f"_base_ = [{str(base)!r}]\n{text}\n")
    return str(config)


def test_a_trail_of_fixed_length_has_a_bound_of_its_own(tmp_path: Path) -> None:
    config = own_config(tmp_path, "method = dict(classifier=dict(class_specific=False, length=4))")
    report = rehearse(tmp_path, [config])
    assert report.checks and not report.failed


def test_a_config_without_snapshots_is_refused(tmp_path: Path) -> None:
    none = "snapshots = dict(capture='none')\nmethod = dict(classifier=dict(_delete_=True, type='crt'))"
    with pytest.raises(LTBenchError, match="takes no snapshots, and those are what is rehearsed"):
        rehearse(tmp_path, [own_config(tmp_path, none)])


@pytest.mark.parametrize("given", [{"epochs": 0}, {"image_size": 0}, {"schedule": 0}])
def test_what_cannot_be_rehearsed_is_refused(tmp_path: Path, given: dict) -> None:
    with pytest.raises(LTBenchError, match="is a whole number from 1, got 0"):
        rehearse(tmp_path, **given)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_real_counts(tmp_path: Path) -> None:
    counts: ClassCounts = class_counts("places_lt")
    asked = ImageRehearsal(work_dir=tmp_path)
    report = rehearse_images(counts, "places_lt", asked, CONFIGS, Console(quiet=True))
    assert report.facts["training samples N"] == 62_500 and not report.failed
