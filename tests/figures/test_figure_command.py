"""``lt-bench figure``: every figure end to end on a short run, the same bytes twice, and its sentences."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import matplotlib
import pandas as pd
import pytest
from PIL import Image

from lt_bench.cli import main
from lt_bench.evaluation.record import read_record
from lt_bench.figures.finished_stage import chosen_epochs
from tests.figures.conftest import OPTIONS

STRONG = "digits_lt/breadcrumb_strong"
COMMITTED = Path(__file__).parents[2] / "leaderboards" / "records"


@pytest.fixture()
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture, *words: str, out: str = "a.svg") -> str:
    """The one sentence on standard error; nothing was written."""
    before = sorted(Path().rglob("*"))
    assert main(["figure", *words, "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lt-bench: ") and error.count("\n") == 1 and "Traceback" not in error
    assert sorted(Path().rglob("*")) == before
    return error


@pytest.mark.parametrize(
    ("figure", "columns"),
    [
        ("3", ["group", "classes", "earlier", "later", "gain", "increase", "holds"]),
        ("4", ["group", "class", "epoch", "source", "x", "y"]),
        ("5b", ["variant", "epoch", "hard", "examples"]),
    ],
)
def test_from_snapshots(
    here: Path, options: list[str], capsys: pytest.CaptureFixture, figure: str, columns: list[str]
) -> None:
    assert main(["figure", figure, "digits_lt/breadcrumb_weak", *options, "--out", "one.svg"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-2:] == ["one.csv", "one.svg"]
    data = pd.read_csv("one.csv")
    assert list(data.columns) == columns and len(data) and not data.isna().any().any()
    svg = Path("one.svg").read_text()
    assert svg.startswith("<?xml") and "</svg>" in svg and "<dc:date>" not in svg
    assert sorted(path.name for path in here.iterdir()) == ["one.csv", "one.svg"]
    # Another config of that stage 1 gives the same.
    assert main(["figure", figure, STRONG, *options, "--out", "two.svg"]) == 0
    assert Path("two.svg").read_bytes() == Path("one.svg").read_bytes()
    assert Path("two.csv").read_bytes() == Path("one.csv").read_bytes()


def test_what_is_printed_is_what_is_in_the_file(
    here: Path, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert main(["figure", "3", STRONG, *options, "--epochs", "2", "9", "5", "--out", "three.svg"]) == 0
    said = capsys.readouterr().out
    data = pd.read_csv("three.csv")
    assert "3 pairs of the epochs 2, 5, 9" in said
    for group in ("all", "many", "medium", "few"):
        own = data[data["group"] == group]
        assert len(own) == 3 and (own["earlier"] < own["later"]).all()
        assert f"  {group}: {(own['increase'] >= own['gain'] / 2).sum()} of 3 points" in said
    assert main(["figure", "5b", STRONG, *options, "--hard-loss", "0.5", "--out", "five.svg"]) == 0
    said = capsys.readouterr().out
    data = pd.read_csv("five.csv")
    strong = data[data["variant"] == "strong"]
    assert f"  strong: {strong['hard'].sum()} of {strong['examples'].sum()} in 10 epochs" in said
    assert strong["hard"].sum() > 0


def test_per_class_of_committed_records(here: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["digits_lt/plain", "digits_lt/crt", "--records", str(COMMITTED)]
    assert main(["figure", "per-class", *words, "--out", "new/folder/classes.png"]) == 0
    of_seeds = [read_record(path).scores for path in sorted((COMMITTED / "digits_lt/crt").glob("*.json"))]
    means = {
        group: fmean(getattr(scores, group) for scores in of_seeds) for group in ("many", "medium", "few")
    }
    told = ", ".join(f"{group} {mean:.1f}" for group, mean in means.items())
    assert f"cRT (5 seeds): {told}" in capsys.readouterr().out
    with Image.open("new/folder/classes.png") as image:
        assert image.width > 900 and "Software" not in image.info
    assert len(pd.read_csv("new/folder/classes.csv")) == 20


def test_same_bytes_in_another_process_with_other_settings(here: Path) -> None:
    words = [
        "figure",
        "per-class",
        "digits_lt/crt",
        "digits_lt/ldam",
        "digits_lt/ncm",
        "--records",
        str(COMMITTED),
        "--out",
    ]
    for suffix in ("svg", "png"):
        with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
            assert main([*words, f"one.{suffix}"]) == 0
        environment = {**os.environ, "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "99"}
        other = [sys.executable, "-m", "lt_bench.cli", *words, f"two.{suffix}"]
        subprocess.run(other, check=True, env=environment, stdout=subprocess.DEVNULL)
        assert Path(f"one.{suffix}").read_bytes() == Path(f"two.{suffix}").read_bytes()
    assert Path("one.csv").read_bytes() == Path("two.csv").read_bytes()


def test_unknown_figures_and_options(here: Path, options: list[str], capsys: pytest.CaptureFixture) -> None:
    assert "unknown figure '6': known: 3, 4, 5b, per-class" in refused(capsys, "6", STRONG)
    assert "did you mean '5b'" in refused(capsys, "5", STRONG)
    assert "--window is not for figure 3, which takes --seed" in refused(capsys, "3", STRONG, "--window", "3")
    assert "--seed is not for figure per-class" in refused(capsys, "per-class", "--seed", "0")
    assert "a .svg or a .png file, got '.pdf'" in refused(capsys, "3", STRONG, out="a.pdf")
    assert "got 'no suffix'" in refused(capsys, "3", STRONG, out="a")
    assert "one config's stage 1, got 0" in refused(capsys, "4")
    assert "one config's stage 1, got 2" in refused(capsys, "4", STRONG, STRONG)
    assert "a seed is a whole number" in refused(capsys, "4", STRONG, "--seed", "-1")
    assert "did you mean" in refused(capsys, "4", "digits_lt/breadcrumb_stron")
    assert "weight decay above 0" in refused(
        capsys, "3", STRONG, *options, "classifier_recipe.weight_decay=0"
    )


def test_stages_and_snapshots_that_are_not_there(
    here: Path, trained: Path, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    for figure in ("3", "4", "5b"):
        sentence = refused(capsys, figure, STRONG, "--seed", "3", "--work-dir", "nowhere")
        assert "no finished stage 1 of digits_lt/breadcrumb_strong with seed 3 in nowhere" in sentence
        command = (
            "lt-bench run digits_lt/breadcrumb_strong --seeds 3 --cfg-options snapshots.keep=all "
            "--work-dir nowhere --records nowhere/records --replace"
        )
        assert command in sentence
    assert "takes none" in refused(capsys, "3", STRONG, "--cfg-options", "snapshots.capture=none")
    shutil.copytree(trained / "stage1", "copy/stage1")
    other = ["--work-dir", "copy", "--cfg-options", *OPTIONS, "snapshots.capture=epoch_end"]
    assert "took its snapshots with capture 'training_forward'" in refused(capsys, "3", STRONG, *other)
    (shard,) = Path("copy").rglob("epoch_0004.safetensors")
    shard.unlink()
    sentence = refused(capsys, "3", STRONG, "--work-dir", "copy", "--cfg-options", *OPTIONS)
    assert "no snapshot of 1 of its 10 epochs (the first is 4)" in sentence and "stage1.epochs=10" in sentence


def test_the_command_that_is_named_mends_it(here: Path, capsys: pytest.CaptureFixture) -> None:
    option = ["--work-dir", "work", "--cfg-options", "stage1.epochs=2", "runtime.checkpoint_interval=2"]
    # A run that kept no snapshot left a record where the command puts its own.
    assert main(["run", "digits_lt/plain", *option, "snapshots.keep=0", "--records", "work/records"]) == 0
    shutil.rmtree("work/stage1")
    sentence = refused(capsys, "3", "digits_lt/plain", *option)
    assert main(sentence.split("lt-bench ")[-1].split()) == 0
    assert main(["figure", "3", "digits_lt/plain", *option, "--out", "three.svg"]) == 0


def test_epochs_and_classes_that_cannot_be_shown(
    here: Path, options: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert "from 8 to 10, got 7, 9" in refused(capsys, "4", STRONG, *options, "--epochs", "9", "7")
    many = ["stage1.epochs=20", "--epochs", *map(str, range(8, 16))]
    assert (
        main(["run", STRONG, "--work-dir", "long", "--records", "long", "--cfg-options", *OPTIONS, many[0]])
        == 0
    )
    capsys.readouterr()
    long = ["--work-dir", "long", "--cfg-options", *OPTIONS, *many]
    assert "7 epochs can be told apart in figure 4, got 8" in refused(capsys, "4", STRONG, *long)
    assert "two or more epochs from 1 to 10, got 4" in refused(capsys, "3", STRONG, *options, "--epochs", "4")
    assert "digits_lt/breadcrumb_strong" in refused(capsys, "5b", "digits_lt/plain", *options)
    for loss in ("nan", "inf", "-1"):
        assert "a loss in nats from 0" in refused(capsys, "5b", STRONG, *options, f"--hard-loss={loss}")
    flat = ["--work-dir", "flat", "--cfg-options", "stage1.epochs=2", "dataset.imbalance_factor=1"]
    run = ["run", "digits_lt/plain", *flat, "snapshots.keep=all", "--records", "flat/records"]
    assert main(run) == 0
    assert "this task has none" in refused(capsys, "4", "digits_lt/plain", *flat)
    assert "none under the convention 'strict'" in refused(capsys, "5b", STRONG, *flat)


def test_records_that_are_not_there_or_mixed(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert "no folder of run records" in refused(capsys, "per-class")
    records = ["--records", str(COMMITTED)]
    mixed = refused(capsys, "per-class", "digits_lt/crt", "cifar100_lt/crt_r32", *records)
    assert "name records of one dataset" in mixed
    assert "did you mean" in refused(capsys, "per-class", "digits_lt/crtt", *records)
    assert "cannot be read" in refused(capsys, "per-class", "nowhere.json", *records)
    assert "odd number of classes" in refused(capsys, "per-class", "digits_lt/crt", "--window", "2", *records)
    assert "28 curves can be told apart" in refused(capsys, "per-class", "digits_lt", *records)


def test_unwritable_folder(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "file").write_text("in the way")
    words = ["per-class", "digits_lt/crt", "--records", str(COMMITTED)]
    assert "cannot write file/a.csv" in refused(capsys, *words, out="file/a.svg")


def test_epochs_are_evenly_spaced() -> None:
    assert chosen_epochs(None, 1, 60, 12) == [1, 6, 12, 17, 22, 28, 33, 39, 44, 49, 55, 60]
    assert chosen_epochs(None, 8, 10, 4) == [8, 9, 10]
    assert chosen_epochs([5, 3, 5], 1, 9, 4) == [3, 5]
