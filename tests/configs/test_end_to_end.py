"""The ImageNet-LT config of strong Breadcrumb, end to end on real JPEG files, with only sizes overridden."""

from __future__ import annotations

from pathlib import Path

import pytest

from lt_bench.cli import main
from lt_bench.evaluation.record import read_record
from tests.image_tree import CIFAR_COUNTS, cifar_splits, write_image_tree

CIFAR100 = Path(__file__).parents[3] / "shared" / "data" / "cifar100"
SIZES = (
    "stage1.epochs=16",
    "stage1.schedule.0.T_max=16",
    "stage1.batch_size=64",
    "classifier_recipe.batch_size=64",
    "train_transforms.0.size=64",
    "test_transforms.0.size=72",
    "test_transforms.1.size=64",
    "runtime.workers=2",
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not CIFAR100.is_dir(), reason="CIFAR-100 is not here")
def test_strong_breadcrumb_on_real_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tree = write_image_tree(tmp_path / "tree", "imagenet_lt", cifar_splits(CIFAR100))
    monkeypatch.chdir(tmp_path)
    own = [f"{key}={value}" for key, value in tree.options.items()]
    config = "imagenet_lt/breadcrumb_strong_r10"
    assert main(["run", config, "--device", "cpu", "--cfg-options", *own, *SIZES]) == 0
    printed = capsys.readouterr().out
    assert "Strong Breadcrumb" in printed
    (path,) = (tmp_path / "leaderboards" / "records").rglob("*.json")
    record = read_record(path)
    assert record.name == config and record.dataset["name"] == "imagenet_lt"
    assert record.dataset["counts"] == list(CIFAR_COUNTS)
    assert record.dataset["facts"]["lists"]["train"]["public"] is None
    assert all(record.scores.group_classes[group] for group in ("many", "medium", "few"))
    assert record.scores.overall > 2 * 100 / len(CIFAR_COUNTS), "well above chance"
    notes = record.method["notes"]
    assert notes["epochs"] == 16 and notes["epochs_on_trails"] > 0
    assert str(tmp_path) not in path.read_text(), "a record says nothing of where the data lay"
    # The printed table has it; Table 1, which is of the real ImageNet-LT, says why it is left out.
    assert f"{record.scores.overall:.1f}" in printed
    assert main(["table", "table1"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("Left out: imagenet_lt/breadcrumb_strong_r10, seed 0: its num_classes is 24 and") == 1
    assert "Measured: no record yet." in shown
