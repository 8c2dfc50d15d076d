"""One experiment of several configs: ``digits_lt/ldam+crt``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_bench.cli import main
from lt_bench.config import load_experiment
from lt_bench.config.composition import Part, compose, part_names
from lt_bench.config.folders import find_config
from lt_bench.engine.identity import stage1_identity
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.record import read_records
from lt_bench.leaderboard.build import build_table
from lt_bench.leaderboard.spec import parse_spec
from tests.short import SHORT

SEAMS = ("representation", "classifier", "prediction")


def seams(name: str) -> dict:
    method = load_experiment(name).config["method"]
    return {seam: method[seam] for seam in SEAMS}


def refused(*parts: Part, match: str) -> None:
    with pytest.raises(LTBenchError, match=match):
        compose(parts)


def part(name: str, **config) -> Part:
    given = {"dataset": {"type": "a"}, "convention": "strict", "model": {"backbone": {"type": "b"}}}
    return Part(name, {**given, "method": {}, **config})


CRT = {"classifier": {"type": "crt"}}
LDAM = {"representation": {"type": "ldam"}, "classifier": {"type": "kept"}}


def test_names_of_parts() -> None:
    assert part_names("digits_lt/ldam+crt") == ["digits_lt/ldam", "digits_lt/crt"]
    assert part_names("a/b/c.py+d.py") == ["a/b/c.py", "a/b/d.py"]
    assert part_names("digits_lt/crt") == ["digits_lt/crt"]
    assert part_names("crt.py+ldam.py") == ["crt.py", "ldam.py"]


def test_each_seam_comes_from_the_part_that_sets_it() -> None:
    found = load_experiment("digits_lt/ldam+crt")
    ldam, crt = seams("digits_lt/ldam"), seams("digits_lt/crt")
    assert found.name == "digits_lt/ldam+crt" and found.label == "LDAM-DRW + cRT"
    assert seams("digits_lt/ldam+crt") == {**ldam, "classifier": crt["classifier"]}
    three = load_experiment("cifar100_lt/balanced_softmax_r32+logit_adjusted_r32+lws_r32")
    assert three.label == "Balanced Softmax + LWS + Logit adjustment (post hoc)"
    method = three.config["method"]
    assert [method[seam]["type"] for seam in SEAMS] == ["balanced_softmax", "lws", "logit_adjusted"]
    assert method["classifier"]["recipe"]["epochs"] == 5


@pytest.mark.parametrize("parts", ["bcl+tau_norm", "ce_drs+breadcrumb_strong", "mislas+logit_adjusted"])
def test_the_order_of_parts_does_not_matter(parts: str) -> None:
    turned = "+".join(reversed(parts.split("+")))
    assert load_experiment(f"digits_lt/{turned}").config == load_experiment(f"digits_lt/{parts}").config


def test_all_else_comes_from_the_part_with_the_representation() -> None:
    bcl = load_experiment("digits_lt/bcl").config
    for name in ("digits_lt/bcl+crt", "digits_lt/crt+bcl"):
        composed = load_experiment(name).config
        assert composed["train_transforms"] == bcl["train_transforms"]
        assert stage1_identity(composed, "data", 0) == stage1_identity(bcl, "data", 0)
    paco = load_experiment("cifar100_lt/crt_r32+paco_r32").config
    assert paco["stage1"]["optimizer"]["lr"] == 0.02


def test_where_no_part_has_a_representation_the_first_gives_all_else() -> None:
    longer = part("longer", stage1={"epochs": 9})
    assert compose([longer, part("crt", stage1={"epochs": 3}, method=CRT)])["stage1"] == {"epochs": 9}
    assert compose([part("crt", stage1={"epochs": 3}, method=CRT), part("la", method={"prediction": {}})])[
        "stage1"
    ] == {"epochs": 3}


def test_a_classifier_brings_its_recipe_and_its_snapshots() -> None:
    kept = part("ldam", method=LDAM, classifier_recipe={"lr": 1.0}, snapshots={"keep": 1})
    crt = part("crt", method=CRT, classifier_recipe={"lr": 2.0}, stage1={"epochs": 3})
    for parts in ([kept, crt], [crt, kept]):
        composed = compose(parts)
        assert composed["classifier_recipe"] == {"lr": 2.0}
        assert "snapshots" not in composed and "stage1" not in composed
    prediction = part("la", method={"prediction": {"type": "logit_adjusted"}}, classifier_recipe={"lr": 3.0})
    assert compose([kept, prediction])["classifier_recipe"] == {"lr": 1.0}
    assert compose([kept, prediction])["snapshots"] == {"keep": 1}


def test_a_sampler_is_a_representation_of_its_own() -> None:
    refused(
        part("ldam", method=LDAM),
        part("balanced", method={"representation": {"type": "plain", "sampler": {"type": "class_balanced"}}}),
        match="ldam and balanced both set the representation",
    )


def test_parts_that_do_not_go_together_are_refused() -> None:
    one, two = part("ldam", method=LDAM), part("crt", method=CRT)
    refused(two, part("lws", method={"classifier": {"type": "lws"}}), match="crt and lws both set the class")
    refused(one, two, one, match="ldam and ldam both set the representation")
    refused(one, part("plain"), match="plain sets no seam")
    refused(part("plain"), one, match="plain sets no seam")
    for key, other in (
        ("dataset", {"type": "a", "imbalance_factor": 10}),
        ("convention", "paper"),
        ("model", {"backbone": {"type": "c"}}),
    ):
        refused(one, part("crt", method=CRT, **{key: other}), match=f"ldam and crt differ in their {key}")
    refused(one, Part("odd", {"method": "crt"}), match="odd has no dict 'method'")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digits_lt/ldam+crtt", "there is no config 'digits_lt/crtt': did you mean 'digits_lt/crt'"),
        ("digits_lt/ldam+", "there is no config 'digits_lt/'"),
        ("digits_lt/crt+lws", "digits_lt/crt and digits_lt/lws both set the classifier"),
        ("digits_lt/ride+crt", "digits_lt/ride and digits_lt/crt differ in their model"),
        ("imagenet_lt/focal_r10+crt_rx50", "differ in their model"),
        ("digits_lt/ldam+digits_lt/crt", "lie in one folder, which is named once: digits_lt/ldam+crt"),
        ("mine/loss.py+configs/digits_lt/crt.py", "lie in one folder"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture, name: str, sentence: str
) -> None:
    assert main(["show", name]) == 2
    told = capsys.readouterr().err
    assert sentence in told and len(told.splitlines()) == 1


def test_options_change_what_is_composed(capsys: pytest.CaptureFixture) -> None:
    options = ["classifier_recipe.lr=0.5", "method.representation.scale=16", "method.label=Mine"]
    assert main(["show", "digits_lt/ldam+crt", "--cfg-options", *options]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "digits_lt/ldam+crt" and shown["method"]["label"] == "Mine"
    assert shown["method"]["classifier"]["recipe"]["lr"] == 0.5
    plain = load_experiment("digits_lt/ldam").config["method"]["representation"]
    assert shown["method"]["representation"] == {**plain, "scale": 16}


def test_files_of_one_folder_with_modules_beside_them(tmp_path: Path) -> None:
    base = str(find_config("digits_lt/plain").path.resolve())
    (tmp_path / "loss_of_this_test.py").write_text(
        "from lt_bench.registry import METHODS\n"
        "from methods.plain import Plain\n\n\n"
        "@METHODS.register_module('loss_of_this_test', force=True)\n"
        "class Loss(Plain):\n"
        "    '''Plain by another name.'''\n"
    )
    (tmp_path / "loss.py").write_text(
        f"_base_ = [{base!r}]\ncustom_imports = dict(imports='loss_of_this_test')\n"
        "method = dict(label='Loss', representation=dict(type='loss_of_this_test'))\n"
    )
    (tmp_path / "ncm.py").write_text(
        f"_base_ = [{base!r}]\nmethod = dict(label='NCM', classifier=dict(type='ncm'))\n"
    )
    found = load_experiment(f"{tmp_path}/ncm.py+loss.py")
    assert found.name == f"{tmp_path.name}/ncm+loss" and found.label == "Loss + NCM"
    # A file whose own name has a plus is itself.
    (tmp_path / "a+b.py").write_text((tmp_path / "ncm.py").read_text())
    assert load_experiment(f"{tmp_path}/a+b.py").label == "NCM"


def test_from_the_words_to_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [f"{key}={value}" for key, value in SHORT.items()]
    words = ["digits_lt/ldam", "digits_lt/ldam+ncm", "--device", "cpu", "--cfg-options", *options]
    assert main(["run", *words]) == 0
    assert len(list(Path("work_dirs/stage1").iterdir())) == 1, "both hang on one stage 1"
    assert Path("leaderboards/records/digits_lt/ldam+ncm/seed_0.json").is_file()
    assert main(["sweep", "--folder", "sweep", *words]) == 0
    assert "1 of 1 done" in capsys.readouterr().out

    row = {"label": "LDAM-DRW + NCM", "config": "digits_lt/ldam+ncm"}
    section = {"title": "Digits", "dataset": "digits_lt", "convention": "strict", "rows": [row]}
    spec = parse_spec({"name": "mine", "title": "Mine", "metrics": ["overall"], "sections": [section]})
    (built,) = build_table(spec, read_records("leaderboards/records")).sections[0].rows
    assert built.state == "measured" and built.seeds == [0]
    assert built.records[0].label == "LDAM-DRW + NCM"


def test_a_search_of_a_composed_config(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = [f"{key}={value}" for key, value in {**SHORT, "stage1.epochs": 1}.items()]
    folders = ["--work-dir", str(tmp_path / "work"), "--out", str(tmp_path), "--device", "cpu"]
    grid = ["--grid", "method.classifier.recipe.lr=0.1,0.2"]
    assert main(["search", "digits_lt/focal+crt", *grid, *folders, "--cfg-options", *options]) == 0
    report = json.loads((tmp_path / "digits_lt" / "focal+crt.json").read_text())
    assert report["config"] == "digits_lt/focal+crt"
