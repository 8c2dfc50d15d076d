"""One call with several experiments: what they share, what they must not, and what fails alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_bench.config import Experiment
from lt_bench.engine.checkpoints import saved_epochs
from lt_bench.engine.locks import exclusive
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import PLACE, code_version
from lt_bench.evaluation.record import RunRecord
from lt_bench.run import call

Short = Callable[..., Experiment]
Launch = Callable[..., list[tuple[Path, RunRecord]]]


def named(experiment: Experiment, name: str) -> Experiment:
    return dataclasses.replace(experiment, name=name)


def test_a_head_that_a_classifier_cannot_use_is_refused_before_it_is_trained(
    short: Short, launch: Launch, tmp_path: Path
) -> None:
    for stems, sentence in (
        ("ldam+tau_norm", "tau_norm evens out the norms of a linear stage-1 head's rows, got CosineHead"),
        ("ldam+oltr", "oltr starts its hallucinator from a linear stage-1 head, got CosineHead"),
        ("ldam+weight_balancing", "weight_balancing bounds the norms"),
    ):
        with pytest.raises(LTBenchError, match=sentence):
            launch(short("plain"), short(stems))
    routed = short("plain", **{"method.classifier": {"type": "ride_routing"}})
    with pytest.raises(LTBenchError, match="a stage-1 head of two or more experts, got Linear"):
        launch(routed)
    assert not (tmp_path / "here").exists()


def test_snapshots_taken_otherwise_are_refused(short: Short, launch: Launch) -> None:
    launch(short("breadcrumb_strong"))
    other = short("breadcrumb_strong", **{"snapshots.capture": "epoch_end"})
    with pytest.raises(
        LTBenchError, match="with capture 'training_forward', this config asks for 'epoch_end'"
    ):
        launch(other, replace=True)
    launch(short("crt", **{"snapshots.capture": "epoch_end"}))  # needs no snapshot


def test_two_ways_of_taking_snapshots_do_not_share_a_training(short: Short, launch: Launch) -> None:
    half = named(short("breadcrumb_strong", **{"snapshots.dtype": "float16"}), "digits_lt/half")
    with pytest.raises(LTBenchError, match=r"share a stage 1, but ask for snapshots\.dtype"):
        launch(short("breadcrumb_strong"), half)


def test_snapshots_through_other_transforms_are_refused(short: Short, launch: Launch) -> None:
    """Class-balanced batches do not show every image: snapshots are taken at the end of an epoch."""
    stem = "class_balanced_sampling+breadcrumb_strong"
    shifted = {"test_transforms.0.mean": [1.0]}
    with pytest.raises(LTBenchError, match=r"share a stage 1, but ask for snapshots\.transforms"):
        launch(short(stem), named(short(stem, **shifted), "digits_lt/shifted"))
    launch(short(stem))
    with pytest.raises(LTBenchError, match="took its snapshots with transforms"):
        launch(named(short(stem, **shifted), "digits_lt/shifted"))
    launch(short("class_balanced_sampling", **shifted), replace=True)  # needs no snapshot


def test_snapshots_go_through_the_transforms_of_who_needs_them(short: Short, launch: Launch) -> None:
    shifted = short("class_balanced_sampling", **{"test_transforms.0.mean": [1.0]})
    strong = short("class_balanced_sampling+breadcrumb_strong")
    together = launch(named(shifted, "digits_lt/shifted"), strong, folder="together")[1][1]
    assert together.scores == launch(strong, folder="alone")[0][1].scores


def test_a_stage_held_by_another_call_fails_alone(
    short: Short, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, original = [], call._finish_all

    def finish(trained, *rest):
        if not held:
            held.append(exclusive(trained[0][0][0].stage.folder, "another call"))
            with held[0]:
                return original(trained, *rest)
        return original(trained, *rest)

    monkeypatch.setattr(call, "_finish_all", finish)
    with pytest.raises(LTBenchError, match="2 runs failed and 1 have a record"):
        launch(
            short("plain"), short("crt"), named(short("plain", **{"stage1.epochs": 2}), "digits_lt/shorter")
        )
    assert [p.parent.name for p in tmp_path.glob("here/records/*/*/*.json")] == ["shorter"]


def test_the_most_snapshots_that_any_of_a_call_asks_for_are_kept(
    short: Short, launch: Launch, tmp_path: Path
) -> None:
    none = {"snapshots.keep": 0}
    launch(short("crt", **none), short("plain", **{"snapshots.keep": 3}))
    assert len(list(tmp_path.glob("here/work/stage1/*/snapshots/*.safetensors"))) == 3


def test_a_weak_trail_needs_no_store(short: Short, launch: Launch, tmp_path: Path) -> None:
    none = {"snapshots.keep": 0, "method.classifier.length": 4}
    outcome = launch(short("plain", **{"snapshots.keep": 0}), short("back_tracking", **none))
    assert outcome[1][1].method["notes"]["epochs_on_trails"] == 2
    assert not list(tmp_path.glob("here/work/stage1/*/snapshots"))


def test_experiments_that_share_a_training_are_scored_on_their_own_splits(
    short: Short, launch: Launch
) -> None:
    """The record says what was validated on; it must be so."""
    both = [short("tau_norm", **{"dataset.val_per_class": n}) for n in (2, 10)]
    names = ["digits_lt/few", "digits_lt/more"]
    together = launch(*[named(e, n) for e, n in zip(both, names, strict=True)])
    sizes = [record.dataset["sizes"]["val"] for _, record in together]
    assert sizes == [20, 100]
    for experiment, name, (_, record) in zip(both, names, together, strict=True):
        alone = launch(named(experiment, name), folder=f"alone_{name[-4:]}")[0][1]
        assert alone.selected == record.selected
        assert alone.scores == record.scores


def test_what_cannot_end_well_is_refused_before_anything_is_trained(
    short: Short, launch: Launch, tmp_path: Path
) -> None:
    with pytest.raises(
        LTBenchError, match="back-tracks over 10 snapshots, for which stage 1 needs 10 epochs"
    ):
        launch(short("plain"), short("back_tracking"))
    large = "method.classifier.recipe.batch_size"
    for stem, key in (("crt", large), ("lws", large), ("oltr", "method.classifier.batch_size")):
        with pytest.raises(LTBenchError, match="makes full batches only, and 574 samples do not fill one of"):
            launch(short(stem, **{key: 4096}))
    with pytest.raises(LTBenchError, match="cannot name a record"):
        launch(named(short("plain"), "my folder/plain"), replace=True)
    assert not (tmp_path / "here" / "work").exists()


def test_two_configs_of_one_name_are_not_one_named_twice(short: Short, launch: Launch) -> None:
    with pytest.raises(LTBenchError, match="digits_lt/plain with seed 0 is named twice"):
        launch(short("plain"), short("plain"))
    with pytest.raises(LTBenchError, match="two configs are both called digits_lt/plain; rename one"):
        launch(short("plain"), named(short("crt"), "digits_lt/plain"))


def test_one_failure_does_not_keep_the_others_from_being_run(
    short: Short, launch: Launch, tmp_path: Path
) -> None:
    bad = short("crt", **{"method.classifier.recipe.lr": 1e30})
    diverging = named(short("plain", **{"stage1.optimizer.lr": 1e30}), "digits_lt/diverging")
    with pytest.raises(
        LTBenchError, match=r"2 runs failed and 1 have a record: \(1\) .*classifier's loss.*\(2\) "
    ):
        launch(bad, short("plain"), diverging)
    assert [p.parent.name for p in tmp_path.glob("here/records/*/*/*.json")] == ["plain"]


def test_replacing_a_record_goes_on_with_its_stage_1(short: Short, launch: Launch, tmp_path: Path) -> None:
    launch(short("plain"))
    stage = next(tmp_path.glob("here/work/stage1/*"))
    (stage / "stage1.json").unlink()
    saved_epochs(stage)[5].unlink()
    assert list(saved_epochs(stage)) == [4]
    launch(short("plain"), unfinished="resume", replace=True)
    assert json.loads((stage / "stage1.json").read_text())["resumed"]


def test_a_record_says_which_code_trained_and_what_each_part_took(short: Short, launch: Launch) -> None:
    outcome = launch(short("plain"), short("breadcrumb_strong"))
    plain, strong = (record for _, record in outcome)
    assert plain.stage1 is not None
    environment = {key: plain.environment[key] for key in PLACE}
    assert plain.stage1["trained_by"] == [{**code_version(), "environment": environment}]
    assert plain.stage1["world_size"] == 1
    # Its epochs were trained alongside stage 1, of whose time they are no part.
    assert strong.stage_seconds["classifier"] > 5 * plain.stage_seconds["classifier"]
    assert strong.stage_seconds["stage1"] == plain.stage_seconds["stage1"]
    assert plain.protocol["batch_norm"] is None
    assert strong.protocol["batch_norm"] == "eval"


def test_a_killed_write_leaves_nothing_for_ever(short: Short, launch: Launch, tmp_path: Path) -> None:
    launch(short("plain"))
    stage = next(tmp_path.glob("here/work/stage1/*"))
    (stage / "stage1.json").unlink()
    left = stage / ".epoch_4.pth.abcd"
    left.write_bytes(b"half")
    launch(short("plain"), unfinished="resume", replace=True)
    assert not left.exists()
