"""The command line as a person meets it: what it prints, its exit codes, its sentences."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_bench.cli import main, parser
from lt_bench.commands.device import choose_device
from lt_bench.commands.options import parse_options
from lt_bench.errors import LTBenchError
from tests.short import SHORT

OPTIONS = [f"{key}={value}" for key, value in SHORT.items()]


@pytest.fixture()
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> int:
    return main(["run", *words, "--cfg-options", *OPTIONS])


def refused(capsys: pytest.CaptureFixture, code: int) -> str:
    """The one sentence on standard error."""
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("lt-bench: ") and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_run_ends_with_table_and_record(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("digits_lt/plain", "digits_lt/ncm", "--seeds", "0", "1") == 0
    printed = capsys.readouterr().out
    assert "Overall" in printed and "NCM" in printed and "±" in printed
    assert "record: leaderboards/records/digits_lt/ncm/seed_1.json" in printed
    assert "\x1b" not in printed, "no terminal, no escape codes"
    assert run("digits_lt/ncm", "--seeds", "1") == 0
    assert "found its record" in capsys.readouterr().out
    assert main(["table", "digits_lt"]) == 0
    board = (here / "leaderboards" / "digits_lt.md").read_text()
    assert "NCM" in board and "not run" in board
    assert main(["table", "digits_lt", "--check"]) == 0
    (here / "leaderboards" / "digits_lt.md").write_text(board + " ")
    refused(capsys, main(["table", "digits_lt", "--check"]))


def test_lists(capsys: pytest.CaptureFixture) -> None:
    for kind, name in (
        ("methods", "breadcrumb"),
        ("configs", "digits_lt/breadcrumb_strong"),
        ("datasets", "cifar100_lt"),
        ("tables", "table1"),
    ):
        assert main(["list", kind]) == 0
        assert name in capsys.readouterr().out


def test_show_prints_the_resolved_config(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "digits_lt/crt", "--cfg-options", "stage1.epochs=3"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["stage1"]["epochs"] == 3
    assert shown["method"]["classifier"]["recipe"]["batch_size"] == 32


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["digits_lt/breadcrumb_stong"], "did you mean 'digits_lt/breadcrumb_strong'"),
        (["nowhere.py"], "there is no config 'nowhere.py'"),
        (["digits_lt/plain", "--seeds", "-1"], "a seed is a whole number"),
        (["digits_lt/plain", "--device", "tpu"], "--device is auto, cpu"),
        (["digits_lt/plain", "--launcher", "ssh"], "--launcher is one of"),
        (["digits_lt/plain", "digits_lt/plain"], "named twice"),
    ],
)
def test_bad_words(here: Path, capsys: pytest.CaptureFixture, words: list[str], sentence: str) -> None:
    assert sentence in refused(capsys, run(*words))
    assert not (here / "leaderboards").exists()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("method.classifier.type=crtt", "unknown method 'crtt': did you mean 'crt'"),
        ("method.classifier.type=plain", "is 'plain', which is a representation"),
        ("method.classifier.varient=weak", "unknown key method.classifier.varient: did you mean 'variant'"),
        ("method.clasifier.type=crt", "unknown key 'clasifier' in the method: did you mean 'classifier'"),
        ("stage_1.epochs=3", "unknown key 'stage_1' in the config: did you mean 'stage1'"),
        ("stage1.epoch=3", "unknown key 'epoch' in the stage1: did you mean 'epochs'"),
        ("stage1.epochs=0", "stage1.epochs is a whole number from 1"),
        ("stage1.numerics.precision=fp64", "'fp32' or 'bf16'"),
        ("convention=loose", "'loose'"),
        ("dataset.type=digit_lt", "unknown dataset 'digit_lt': did you mean 'digits_lt'"),
        ("dataset.imbalence_factor=3", "did you mean 'imbalance_factor'"),
        ("model.backbone.type=resnet1", "unknown model 'resnet1'"),
        ("snapshots.dtype=int8", "snapshots.dtype is one of float32"),
        ("snapshots.capture=never", "snapshots.capture is one of"),
        ("stage1.optimizer.lr=1e20", "the loss became"),
        ("stage1.optimizer.type=SDG", "unknown optimizer 'SDG': did you mean 'SGD'"),
        ("stage1.optimizer.momentun=1", "momentun"),
        ("method.classifier.recipe.lr=1e30", "the classifier's loss became"),
        ("stage1.numerics.precison=bf16", "did you mean 'precision'"),
        ("stage1.numerics.threads=0", "stage1.numerics.threads is a whole number from 1"),
        ("stage1.numerics.threads=true", "stage1.numerics.threads is a whole number from 1"),
        ("stage1.numerics.threads=100000", "stage1.numerics.threads is a whole number from 1 to 1024"),
        ("stage1.epochs=true", "stage1.epochs is a whole number from 1, got True"),
        ("stage1.recipe.epochs=true", "a whole number of epochs from 1"),
        ("stage1.optimizer.type=5", "unknown optimizer 5"),
        ("stage1.optimizer.type=torch", "unknown optimizer 'torch'"),
        ("stage1.schedule.0.begin=100", "end should be larger than begin"),
        ("stage1.clip_grad.foo=1", "stage1.clip_grad does not clip"),
        ("stage1.clip_grad={'type': 'foo', 'max_norm': 1}", "stage1.clip_grad.type is one of norm, value"),
        ("stage1.optimizer.type=", "unknown optimizer ''"),
        ("stage1.optimizer.type='.'", "unknown optimizer '.'"),
        ("stage1.clip_grad.max_norm=abc", "stage1.clip_grad does not clip"),
        ("model.feature_dim=abc", "model.feature_dim is a whole number from 1"),
        ("model.feature_dim=-3", "model.feature_dim is a whole number from 1"),
        ("custom_imports=5", "custom_imports names modules"),
        ("custom_imports.imports=[5]", "custom_imports names modules"),
        ("runtime.eval_batch_size=true", "runtime.eval_batch_size is a whole number from 1"),
        ("runtime.visualizer={'type': 'Visualizer', 'vis_backends': 5}", "vis_backends is a list of dicts"),
        ("runtime.visualizer={'type': 'Visualizer', 'vis_backends': [{'type': 5}]}", "unknown vis_backend"),
        ("stage1={[]: 1}", "stage1 is a dict"),
        ("stage1.numerics.compile=max-autotune", "compile is none or one of default, reduce-overhead"),
        ("stage1.schedule=5", "stage1.schedule is a list of dicts"),
        ("stage1.schedule=[3]", "stage1.schedule[0] is a dict with a 'type'"),
        (
            "stage1.schedule=[{'type':'MultiStepLR','milestones':[3.5]}]",
            "stage1.schedule[0].milestones is a list of whole numbers, got [3.5]",
        ),
        ("stage1.optimizer.lr=fast", "stage1.optimizer of type 'SGD' does not build"),
        ("stage1.optimizer={'type':'SGD','lr':1,'fused':True,'foreach':True}", "`fused` and `foreach`"),
        ("stage1.clip_grad=3", "stage1.clip_grad is a dict"),
        ("stage1.recipe=x", "stage1.recipe is dict(name=..., epochs=...)"),
        ("model=3", "model is a dict"),
        ("model.backbone=small_convnet", "model.backbone is a dict"),
        ("model.backbone.widht=3", "model 'small_convnet': got an unexpected keyword argument 'widht'"),
        ("method=crt", "method is a dict"),
        ("method.classifier=crt", "method.classifier is a dict with a 'type'"),
        ("method.label=3", "method.label is the method's name"),
        ("classifier_recipe=3", "classifier_recipe is a dict"),
        ("classifier_recipe.lr=fast", "the recipe's lr is a finite number from 0"),
        ("snapshots.keep=some", "snapshots.keep is 'all' or a number"),
        ("runtime.eval_batch_size=0", "runtime.eval_batch_size is a whole number from 1"),
        ("runtime.visualizer.type=Vis", "unknown visualizer 'Vis'"),
        ("train_transforms=5", "train_transforms is a list"),
        ("test_transforms=[]", "a network needs float32"),
        ("dataset=digits", "dataset is a dict"),
        ("nonsense", "--cfg-options expects key=value"),
    ],
)
def test_bad_options(here: Path, capsys: pytest.CaptureFixture, option: str, sentence: str) -> None:
    code = main(["run", "digits_lt/breadcrumb_strong", "--cfg-options", *OPTIONS, option])
    assert sentence in refused(capsys, code)
    assert not list(here.glob("leaderboards/records/**/*.json"))


def test_bad_records_and_stores(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("digits_lt/plain") == 0
    record = here / "leaderboards/records/digits_lt/plain/seed_0.json"
    whole = record.read_text()
    record.write_text(whole[: len(whole) // 2])
    assert "cut off" in refused(capsys, run("digits_lt/plain"))
    assert "cut off" in refused(capsys, main(["table"]))
    record.write_text(whole)
    (shard, *_) = sorted(here.glob("work_dirs/stage1/*/snapshots/*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:100])
    assert shard.name in refused(capsys, run("digits_lt/breadcrumb_strong"))
    shard.unlink()
    assert "snapshots.keep='all'" in refused(capsys, run("digits_lt/breadcrumb_strong"))
    (checkpoint,) = here.glob("work_dirs/stage1/*/epoch_5.pth")
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    assert "truncated or damaged" in refused(capsys, run("digits_lt/ncm"))
    checkpoint.unlink()
    assert "--restart" in refused(capsys, run("digits_lt/ncm"))
    assert run("digits_lt/ncm", "--restart") == 0


def test_unwritable_folder(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "file").write_text("in the way")
    assert "--work-dir" in refused(capsys, run("digits_lt/plain", "--work-dir", "file/work"))
    assert "cannot write" in refused(capsys, run("digits_lt/plain", "--records", "file/records"))


def test_a_folder_of_records_is_tried_before_the_training(here: Path, capsys: pytest.CaptureFixture) -> None:
    Path("file").write_text("")
    assert "cannot write to file" in refused(capsys, run("digits_lt/plain", "--records", "file"))
    words = ["search", "digits_lt/tau_norm", "--grid", "method.classifier.tau=0,1", "--out", "file"]
    assert "cannot write to file" in refused(capsys, main(words))
    assert not (here / "work_dirs").exists()


def test_missing_data_says_what_to_do(here: Path, capsys: pytest.CaptureFixture) -> None:
    sentence = refused(capsys, main(["run", "cifar100_lt/plain_r32"]))
    assert "data" in sentence and "download" in sentence


def test_score(here: Path, capsys: pytest.CaptureFixture) -> None:
    from lt_bench.registry import DATASETS

    data = DATASETS.build({"type": "digits_lt"})
    labels = data.test.labels.numpy()
    logits = np.eye(10, dtype=np.float32)[labels] * 5
    np.savez("perfect.npz", logits=logits)
    assert main(["score", "perfect.npz", "--dataset", "digits_lt"]) == 0
    assert "100.0" in capsys.readouterr().out
    assert not (here / "leaderboards").exists()
    assert main(["score", "perfect.npz", "--dataset", "digits_lt", "--label", "Oracle"]) == 0
    assert main(["table", "digits_lt"]) == 0
    assert "Oracle (external)" in (here / "leaderboards/digits_lt.md").read_text()
    np.savez("short.npz", predictions=labels[:-1])
    refused(capsys, main(["score", "short.npz", "--dataset", "digits_lt"]))
    refused(capsys, main(["score", "none.npz", "--dataset", "digits_lt"]))
    assert "did you mean 'digits_lt'" in refused(
        capsys, main(["score", "perfect.npz", "--dataset", "digit_lt"])
    )


def test_score_keeps_two_labels_apart(here: Path, capsys: pytest.CaptureFixture) -> None:
    from lt_bench.registry import DATASETS

    np.savez("perfect.npz", predictions=DATASETS.build({"type": "digits_lt"}).test.labels.numpy())
    entered = ["score", "perfect.npz", "--dataset", "digits_lt", "--label"]
    assert main([*entered, "LDAM+cRT", "--seed", "0"]) == 0
    assert main([*entered, "LDAM+cRT", "--seed", "0"]) == 0
    told = refused(capsys, main([*entered, "LDAM-cRT", "--seed", "0"]))
    assert "another run" in told and "or delete it" in told
    assert main([*entered, "LDAM-cRT", "--seed", "1"]) == 0
    assert "config's label" in refused(capsys, main(["table", "digits_lt"]))
    assert "from 0, got -3" in refused(capsys, main([*entered, "Ours", "--seed", "-3"]))


def test_score_knows_a_dataset_of_ones_own(here: Path, capsys: pytest.CaptureFixture) -> None:
    Path("own_digits.py").write_text(
        "from lt_bench.data.digits import digits_lt\n"
        "from lt_bench.registry import DATASETS\n"
        "@DATASETS.register_module('own_digits')\n"
        "def own_digits():\n"
        "    return digits_lt()\n"
    )
    Path("own.py").write_text(
        "custom_imports = dict(imports=['own_digits'])\n"
        "dataset = dict(type='own_digits')\n"
        "convention = 'strict'\n"
    )
    np.savez("any.npz", predictions=np.zeros(1000, dtype=int))
    # The builder was found: what is wrong is the number of rows.
    assert "has 1000 rows" in refused(capsys, main(["score", "any.npz", "--dataset", "own.py"]))


def test_a_format_named_twice(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["table", "table1", "--formats", "csv", "csv", "md"]) == 0
    assert "| Method" in capsys.readouterr().out


def test_a_method_in_one_outside_file(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "half_step.py").write_text(
        "import torch.nn.functional as F\n"
        "from lt_bench.method import Representation\n"
        "from lt_bench.registry import METHODS\n\n\n"
        "@METHODS.register_module('smoothed')\n"
        "class Smoothed(Representation):\n"
        "    def __init__(self, task, smoothing=0.1):\n"
        "        super().__init__(task)\n"
        "        self.smoothing = smoothing\n\n"
        "    def criterion(self, logits, labels):\n"
        "        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)\n"
    )
    from lt_bench.config.folders import find_config

    base = find_config("digits_lt/crt").path.resolve()
    (here / "mine").mkdir()
    (here / "mine" / "smoothed_crt.py").write_text(
        f"_base_ = [{str(base)!r}]\n"
        "custom_imports = dict(imports=['half_step'])\n"
        "method = dict(label='Smoothed + cRT', representation=dict(type='smoothed', smoothing=0.2))\n"
    )
    (here / "half_step.py").rename(here / "mine" / "half_step.py")
    assert run("mine/smoothed_crt.py") == 0
    record = json.loads((here / "leaderboards/records/mine/smoothed_crt/seed_0.json").read_text())
    assert record["method"]["representation"] == {"type": "smoothed", "smoothing": 0.2}
    assert record["method"]["classifier"]["type"] == "crt"
    assert main(["table", "digits_lt"]) == 0
    assert "Smoothed + cRT" in (here / "leaderboards/digits_lt.md").read_text()


def test_an_option_given_twice_adds_to_what_came_first() -> None:
    def parsed(*words: str) -> argparse.Namespace:
        return parser().parse_args(words)

    for _ in range(2):
        assert parsed("run", "x").seeds == [0] and parsed("table").formats == ["md", "csv", "tex", "json"]
        given = parsed("run", "x", "--cfg-options", "a=1", "b=2", "--cfg-options", "c=3", "--seeds", "0")
        assert given.cfg_options == ["a=1", "b=2", "c=3"] and given.seeds == [0]
        assert parsed("run", "x", "--seeds", "0", "--seeds", "1", "2").seeds == [0, 1, 2]
        assert parsed("search", "x", "--grid", "a=1,2", "--grid", "b=3,4").grid == ["a=1,2", "b=3,4"]
        twice = parsed("figure", "3", "x", "--out", "a.svg", "--epochs", "1", "--epochs", "2")
        assert twice.epochs == [1, 2] and parsed("figure", "3", "x", "--out", "a.svg").epochs is None


def test_an_interrupted_restart_goes_on_by_the_same_command_with_resume() -> None:
    for command in (["run", "x"], ["search", "x", "--grid", "a=1,2"]):
        assert parser().parse_args(command).unfinished is None
        assert parser().parse_args([*command, "--restart"]).unfinished == "restart"
        assert parser().parse_args([*command, "--restart", "--resume"]).unfinished == "resume"


def test_options_are_read_as_python() -> None:
    assert parse_options(["a=1", "b=[1, 2]", "c=true", "d=None", "e=x=y", "f="]) == {
        "a": 1,
        "b": [1, 2],
        "c": True,
        "d": None,
        "e": "x=y",
        "f": "",
    }


def test_a_cuda_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(LTBenchError, match="no such CUDA device"):
        choose_device("cuda:0")


def test_module_and_command_are_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lt_bench.cli", "run", "no/such"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and done.stderr.startswith("lt-bench: ")
    usage = subprocess.run([sys.executable, "-m", "lt_bench.cli"], capture_output=True, cwd=tmp_path)
    assert usage.returncode == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "digits_lt/plain"], "--resume goes on from the last checkpoint"),
        (["data", "check", "digits_lt"], "give the command again"),
    ],
)
def test_an_interruption_says_how_to_go_on(
    here: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    told: str,
) -> None:
    def interrupted(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lt_bench.run.run", interrupted)
    monkeypatch.setattr("lt_bench.data_check.check_copy", interrupted)
    assert main(words) == 130
    assert capsys.readouterr().err == f"lt-bench: interrupted; {told}\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "GPU's memory is full; lower stage1.batch_size"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is\npossible"),
            "has died (DataLoader worker (pid 7) is killed by signal: Bus error. It is); lower runtime",
        ),
        (RuntimeError("a fault of the code"), None),
    ],
)
def test_a_machine_that_is_too_small_is_told(
    here: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError,
    sentence: str | None,
) -> None:
    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr("lt_bench.run.run", fail)
    if sentence is None:
        with pytest.raises(RuntimeError, match="a fault of the code"):
            main(["run", "digits_lt/plain"])
    else:
        assert sentence in refused(capsys, main(["run", "digits_lt/plain"]))


def test_brackets_in_a_folder_s_name_are_printed(here: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--records", "r/[red]/[/x]", "--work-dir", "w/[/x]"]
    assert run("digits_lt/plain", *words, "--resume") == 0
    printed = capsys.readouterr().out
    file = "r/[red]/[/x]/digits_lt/plain/seed_0.json"
    assert f"record: {file}" in printed and f"-> {file}" in printed and "no checkpoint in w/[/x]" in printed
    assert run("digits_lt/plain", *words, "--profile") == 0
    assert f"found its record {file}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["show", "digits_lt/tau_norm"], ["table", "digits_lt"]])
def test_a_locale_that_is_not_utf_8(here: Path, words: list[str]) -> None:
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "LC_ALL": "C"}
    latin["PYTHONCOERCECLOCALE"] = "0"
    command = [sys.executable, "-m", "lt_bench.cli", *words]
    done = subprocess.run(command, capture_output=True, env=latin)
    assert done.returncode == 0, done.stderr
    assert b"\\u03c4-norm" in done.stdout


def test_two_processes_on_one_stage_1(here: Path, capsys: pytest.CaptureFixture, short: Callable) -> None:
    words = [sys.executable, "-m", "lt_bench.cli", "run", "digits_lt/plain"]
    long = [*words, "--cfg-options", *OPTIONS, "stage1.epochs=2000"]
    first = subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if "2000 epochs" in line:
            break
    code = main(["run", "digits_lt/plain", "--cfg-options", *OPTIONS, "stage1.epochs=2000"])
    sentence = refused(capsys, code)
    first.kill()
    first.wait()
    first.stdout.close()
    assert f"pid {first.pid}" in sentence and "wait for it to end" in sentence


def test_make_trains_beside_the_committed_records() -> None:
    """A run would find those, and train nothing."""
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert "--records work_dirs/" in makefile.split("\nNEW = ")[1].splitlines()[0]
    for target in ("demo", "board", "grid"):
        recipe = makefile.split(f"\n{target}: ")[1].split("\n\n")[0].splitlines()[1:]
        assert recipe and all("$(NEW)" in line or "--records work_dirs/" in line for line in recipe), target
