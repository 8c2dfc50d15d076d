"""The rehearsal on features: sizes counted by hand, checks that can fail, and the real counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lt_bench.cli import main
from lt_bench.config import Experiment, load_experiment
from lt_bench.data.class_counts import ClassCounts, class_counts
from lt_bench.errors import LTBenchError
from lt_bench.rehearsal import Check, FeatureRehearsal, Report, rehearse_features
from lt_bench.rehearsal.generated_features import GeneratedFeatures
from lt_bench.rehearsal.report import tables
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.snapshots.trail import Trail

SMALL = ClassCounts("small", (40, 20, 10, 5, 2), test_per_class=4, feature_dim=8, source="a test")
# n_B = ceil(77 / 5) = 16, so K_j is 1, 1, 2, 4, 8: trails hold 0 + 0 + 10 + 3 * 5 + 7 * 2 features.
TRAIL_ROWS = 39
# float16 features, and float32 means and deviations.
SNAPSHOT_BYTES = 77 * 8 * 2 + 2 * 5 * 8 * 4


def experiments() -> list[Experiment]:
    return [load_experiment(f"rehearsal/breadcrumb_{variant}") for variant in ("weak", "strong")]


def rehearse(counts: ClassCounts = SMALL, **settings: object) -> Report:
    return rehearse_features(counts, FeatureRehearsal(**settings), experiments())  # type: ignore[arg-type]


def checked(report: Report, start: str) -> Check:
    (found,) = [check for check in report.checks if check.statement.startswith(start)]
    return found


def test_sizes_are_those_counted_by_hand(tmp_path: Path) -> None:
    report = rehearse(keep="all", work_dir=tmp_path)
    assert report.facts["epochs"] == 8 + 3
    trail = checked(report, "features in the trail")
    assert (trail.measured, trail.stated) == (TRAIL_ROWS, 5 * 16)
    held = checked(report, "bytes of trail and epoch in flight")
    assert (held.measured, held.stated) == ((TRAIL_ROWS + 77) * 8 * 2, (80 + 77) * 8 * 2)
    assert report.memory["the epoch in flight"] == 77 * 8 * 2
    stored = checked(report, "bytes on disk of 11 kept snapshots")
    assert 11 * SNAPSHOT_BYTES < stored.measured <= stored.stated == 11 * (SNAPSHOT_BYTES + 4096)
    assert not report.failed
    assert not list(tmp_path.iterdir()), "the store is removed at the end"


def test_parts_are_called_as_often_as_a_run_calls_them() -> None:
    parts = {part.name: part for part in rehearse(epochs=9, keep=2, batch_size=20).parts}
    assert parts["capture a batch"].calls == 9 * 4
    assert parts["finish a snapshot"].calls == parts["store a snapshot"].calls == 9
    # Z^E stays out of the trail that A^E is made from.
    assert parts["push onto the trail"].calls == 8
    assert parts["train Strong Breadcrumb, an epoch"].calls == 9
    assert parts["train Weak Breadcrumb, all its epochs"].calls == 1
    assert parts["score a classifier"].calls == 2
    assert all(part.seconds > 0 for part in parts.values())


@pytest.mark.parametrize(("keep", "shards"), [(0, 0), (1, 1), (3, 3), (50, 9), ("all", 9)])
def test_no_more_is_stored_than_is_said(keep: int, shards: int) -> None:
    report = rehearse(epochs=9, keep=keep)
    found = checked(report, f"bytes on disk of {shards} kept")
    assert found.holds and (found.measured > 0) == (shards > 0)
    assert report.disk["snapshots on disk, at the most after a write"] == found.measured


def test_two_hundred_strong_epochs_store_what_two_hundred_snapshots_are() -> None:
    report = rehearse(epochs=200, keep="all")
    found = checked(report, "bytes on disk of 200 kept snapshots")
    assert found.holds and found.measured > 200 * SNAPSHOT_BYTES
    told = report.extrapolated["snapshots of 200 epochs on disk with keep='all', GB"]
    assert told == f"{200 * (SNAPSHOT_BYTES + 4096) / 1e9:,.2f}"
    assert checked(report, "features in the trail").measured == TRAIL_ROWS
    nothing = rehearse(epochs=200, keep=0, steps=1)
    assert nothing.disk["snapshots on disk, at the most after a write"] == 0 and not nothing.failed


def test_some_steps_stand_for_an_epoch() -> None:
    report = rehearse(epochs=9, steps=3, batch_size=10)
    parts = {part.name: part for part in report.parts}
    assert not any(name.startswith("train ") and "Breadcrumb" in name for name in parts)
    (probe,) = [part for name, part in parts.items() if name.startswith("train a linear classifier")]
    # A^e has 5 * 16 features, 8 batches of 10.
    assert report.extrapolated["a classifier's epoch on A^e, s"] == f"{probe.seconds / 3 * 8:,.1f}"
    assert parts["assemble A^E"].calls == parts["score a classifier"].calls == 1


def test_the_classifiers_learn_the_generated_classes() -> None:
    counts = ClassCounts("even", (40,) * 5, test_per_class=20, feature_dim=32, source="a test")
    report = rehearse(counts, epochs=9)
    for label in ("Weak Breadcrumb", "Strong Breadcrumb"):
        assert float(report.facts[f"{label}: accuracy on generated data, %"]) > 60


def test_features_depend_on_seed_epoch_and_sample_only() -> None:
    source, again = (GeneratedFeatures(5, 8, torch.device("cpu"), 3) for _ in range(2))
    labels, samples = torch.tensor([0, 1, 1]), torch.tensor([7, 8, 9])
    first = source.of(labels, samples, 1)
    assert torch.equal(first, again.of(labels, samples, 1))
    assert torch.equal(first[1:], source.of(labels[1:], samples[1:], 1))
    assert not torch.equal(first, source.of(labels, samples, 2))
    assert not torch.equal(first[1], first[2])


def test_a_store_that_keeps_too_much_is_found(monkeypatch) -> None:
    monkeypatch.setattr(SnapshotStore, "_remove", lambda self, epoch: None)
    report = rehearse(epochs=20, keep=1)
    assert [check.statement[:13] for check in report.failed] == ["bytes on disk"]


@pytest.mark.parametrize("rows", [1, 20])
def test_a_trail_that_grows_is_found(monkeypatch, rows: int) -> None:
    """Also where it ends with no more than C n_B features."""
    push = Trail.push

    def hoarding(self: Trail, snapshot: object) -> None:
        push(self, snapshot)  # type: ignore[arg-type]
        self.features = torch.cat([self.features, self.features.new_zeros(rows, self.dim)])

    monkeypatch.setattr(Trail, "push", hoarding)
    report = rehearse(epochs=9)
    assert any(check.statement.startswith("bytes of a trail after") for check in report.failed)
    assert any(check.statement.startswith("features in the trail") for check in report.failed) == (rows == 20)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, "epochs is a whole number from 1, got 0"),
        ({"steps": 0}, "steps is a whole number from 1"),
        ({"keep": -1}, "a number from 0, got -1"),
        ({"dtype": "int8"}, "float32, float16, bfloat16; got 'int8'"),
        ({"epochs": 5}, "back-tracks over 8 snapshots"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(LTBenchError, match=said):
        rehearse(**settings)


def test_a_classifier_without_trails_is_refused() -> None:
    with pytest.raises(LTBenchError, match="digits_lt/crt trains no classifier on snapshots"):
        rehearse_features(SMALL, FeatureRehearsal(), [load_experiment("digits_lt/crt")])


def test_the_report_is_shown_and_written(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("\n".join(map(str, SMALL.counts)))
    words = [
        "rehearse",
        "features",
        "mine.txt",
        "--dim",
        "8",
        "--keep",
        "all",
        "--json",
        "found.json",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Extrapolated, not run" in printed and "DOES NOT HOLD" not in printed
    found = json.loads(Path("found.json").read_text())
    assert found["facts"]["training samples N"] == 77
    assert found["checks"] and all(check["holds"] for check in found["checks"])
    assert {part["name"] for part in found["parts"]} >= {"capture a batch", "store a snapshot"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "mine.txt"]


def test_a_check_that_does_not_hold_ends_the_command(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(SnapshotStore, "_remove", lambda self, epoch: None)
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(map(str, SMALL.counts)))
    assert main(["rehearse", "features", str(path), "--epochs", "20", "--keep", "1", "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert "DOES NOT HOLD" in said.out and "checks do not hold, the first: bytes on disk" in said.err


def test_tables_say_what_was_not_measured() -> None:
    report = rehearse()
    assert [table.title for table in tables(report)][-1] == "Extrapolated, not run"
    assert "the network" in report.extrapolated["not rehearsed"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "samples", "classes"), [("imagenet_lt", 115_846, 1000), ("places_lt", 62_500, 365)]
)
def test_the_real_counts_and_dimension(name: str, samples: int, classes: int, tmp_path: Path) -> None:
    report = rehearse(class_counts(name), keep=1, steps=5, work_dir=tmp_path)
    assert (report.facts["training samples N"], report.facts["classes C"]) == (samples, classes)
    assert not report.failed


@pytest.mark.parametrize(
    ("kind", "option"), [("images", "--dim"), ("images", "--steps"), ("features", "--image-size")]
)
def test_an_option_of_the_other_kind_is_told(capsys, kind: str, option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["rehearse", kind, "places_lt", "--device", "cpu", option, "8"])
    assert f"unrecognized arguments: {option} 8" in capsys.readouterr().err
