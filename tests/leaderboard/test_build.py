"""What fills a table: pooled seeds, refusals, labels, external entries, notes."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from lt_bench.errors import LTBenchError
from lt_bench.leaderboard.build import build_table
from lt_bench.leaderboard.metrics import METRICS
from lt_bench.leaderboard.spec import load_spec
from lt_bench.leaderboard.statistics import estimate
from lt_bench.leaderboard.terminal import result_table


def section_of(spec, records):
    return build_table(spec, records).sections[0]


def rows_of(spec, records):
    return {row.label: row for row in section_of(spec, records).rows}


def with_dataset(record, **changes):
    return dataclasses.replace(record, dataset={**record.dataset, **changes})


def test_seeds_are_pooled(make_record, toy_spec):
    hits = [(40, 30, 20, 10), (44, 30, 22, 8), (41, 33, 18, 15)]
    records = [make_record(seed=seed, hits=hit) for seed, hit in enumerate(hits)]
    row = rows_of(toy_spec, reversed(records))["Plain"]
    assert row.state == "measured" and row.seeds == [0, 1, 2]
    for metric in METRICS:
        values = [getattr(record.scores, metric) for record in records]
        assert row.measured[metric] == estimate(values)
    assert row.measured["overall"].mean == pytest.approx(sum(100 * sum(hit) / 200 for hit in hits) / 3)


def test_measured_figures_follow_the_convention_of_the_table(make_record, toy_spec):
    strict = rows_of(toy_spec, [make_record()])["Plain"].measured
    section = dataclasses.replace(toy_spec.sections[0], convention="inclusive")
    same = rows_of(dataclasses.replace(toy_spec, sections=(section,)), [make_record()])["Plain"]
    assert strict["many"] == same.measured["many"]  # 101 is many under both
    counts = [500, 100, 20, 5]
    record = with_dataset(make_record(), counts=counts, sizes={"train": 625, "val": 0, "test": 200})
    spec = dataclasses.replace(toy_spec, sections=(section,))
    found = rows_of(spec, [record])["Plain"].measured
    assert found["many"].mean == 70.0 and found["few"].mean == 30.0
    assert found["medium"] is None  # 500 and 100 are many, 20 and 5 few


def test_a_published_figure_is_never_measured(toy_spec):
    for row in section_of(toy_spec, []).rows:
        assert row.measured == {} and row.records == ()
        assert row.state == ("published only" if row.config is None else "not run")


def test_records_that_differ_in_more_than_the_seed_are_not_pooled(make_record, toy_spec):
    other = {"stage1": {"epochs": 5}}
    with pytest.raises(LTBenchError, match=r"seeds 0 and 1 differ in the config's stage1\.epochs"):
        build_table(toy_spec, [make_record(), make_record(seed=1, config=other)])
    extra = {"stage1": {"epochs": 20}, "tau": 1}
    with pytest.raises(LTBenchError, match=r"the config's tau \(only one has it\)"):
        build_table(toy_spec, [make_record(), make_record(seed=1, config=extra)])
    moved = with_dataset(make_record(seed=1), identity="cd" * 32)
    with pytest.raises(LTBenchError, match="differ in the dataset"):
        build_table(toy_spec, [make_record(), moved])


def test_a_shorter_schedule_and_a_choice_on_test_are_marked(make_record, toy_spec):
    short = {"identity": "x", "epochs": 5, "recipe": "toy", "recipe_epochs": 20}
    protocol = {
        "selection_rule": "best class mean over 21 τ, on test",
        "selection_split": "test",
        "batch_norm": "eval",
        "checkpoint": "last",
    }
    records = [
        make_record(stage1=short),
        make_record("toy_lt/tau_norm", protocol=protocol, selected={"tau": 0.7}),
    ]
    section = section_of(toy_spec, records)
    labels = [row.shown_label for row in section.rows]
    assert labels == ["Plain (5 of 20 epochs)", "τ-norm †", "cRT", "CE, elsewhere"]
    notes = "\n".join(section.notes)
    assert "† A hyper-parameter was chosen on the test split" in notes
    assert "nothing selected (Plain); best class mean over 21 τ, on test (τ-norm)" in notes
    assert "Stage 1: toy, 5 epochs (Plain); toy, 20 epochs (τ-norm)" in notes


def test_external_entries_stand_on_boards_that_take_them(make_record, toy_spec):
    external = [
        make_record("external/zeta", None, label="Zeta", kind="external", stage1=None, config={}),
        make_record("external/alpha", 4, label="Alpha", kind="external", stage1=None, config={}),
    ]
    section = section_of(toy_spec, [make_record(), *external])
    assert [row.shown_label for row in section.rows[-2:]] == ["Alpha (external)", "Zeta (external)"]
    assert section.rows[-1].seeds == []
    assert any(note.startswith("External:") for note in section.notes)
    closed = dataclasses.replace(toy_spec, open=False)
    assert len(section_of(closed, external).rows) == 4
    elsewhere = [with_dataset(record, name="other_lt") for record in external]
    other_factor = [with_dataset(record, facts={"imbalance_factor": 10}) for record in external]
    assert len(section_of(toy_spec, elsewhere + other_factor).rows) == 4


def test_snapshots_that_were_taken_otherwise_than_asked_are_told(make_record, toy_spec):
    def learner(capture):
        method = {"notes": {"snapshots": {"capture": capture, "dtype": "float32"}}}
        config = {"stage1": {"epochs": 20}, "snapshots": {"capture": "training_forward"}}
        return make_record(method=method, config=config)

    told = [note for note in section_of(toy_spec, [learner("epoch_end")]).notes if "eval mode" in note]
    assert len(told) == 1 and told[0].endswith("as it is: Plain.")
    usual = "\n".join(section_of(toy_spec, [learner("training_forward"), make_record("mine/x")]).notes)
    assert "eval mode" not in usual


def test_what_an_entry_does_not_say_is_not_said_of_it(make_record, toy_spec):
    external = make_record("external/x", None, label="X", kind="external", stage1=None, config={})
    said = section_of(toy_spec, [make_record(), external]).notes
    assert "Stage 1, of the rows that have one: toy, 20 epochs." in said
    assert "Checkpoint: last." in said
    assert "Stage 1: toy, 20 epochs." in section_of(toy_spec, [make_record()]).notes


def test_a_run_that_no_row_names_stands_on_an_open_board(make_record, toy_spec):
    own = make_record("mine/own", label="Own")
    section = section_of(toy_spec, [make_record(), own])
    assert (section.rows[-1].label, section.rows[-1].state) == ("Own", "measured")
    assert len(section_of(dataclasses.replace(toy_spec, open=False), [own]).rows) == 4
    assert len(section_of(toy_spec, [with_dataset(own, name="other_lt")]).rows) == 4


def test_what_stands_on_a_table_elsewhere_is_left_to_it(make_record, toy_spec):
    spec = dataclasses.replace(toy_spec, elsewhere=("digits_lt_grid",))
    names = ("digits_lt/ldam+crt", "toy_lt/ldam+crt", "toy_lt/plain")
    rows = section_of(spec, [make_record(name) for name in names]).rows
    assert [row.config for row in rows if row.records] == ["toy_lt/plain", "toy_lt/ldam+crt"]
    assert len(section_of(toy_spec, [make_record(name) for name in names]).rows) == len(rows) + 1


def test_a_row_of_another_backbone_says_so(make_record, toy_spec):
    larger = make_record("mine/larger", label="Own", backbone="large")
    unstated = make_record(
        "external/other", label="Other", kind="external", stage1=None, config={}, backbone="not stated"
    )
    section = section_of(toy_spec, [make_record(), larger, unstated])
    assert [row.label for row in section.rows[-2:]] == ["Own (large)", "Other"]
    assert section_of(toy_spec, [larger]).rows[-1].label == "Own"


def test_records_without_a_seed_are_not_pooled(make_record, toy_spec):
    entry = {"label": "Other", "kind": "external", "stage1": None, "config": {}}
    pair = [make_record("external/other", seed, **entry) for seed in (None, 1)]
    with pytest.raises(LTBenchError, match="one of them has no seed"):
        section_of(toy_spec, pair)


def test_an_external_entry_does_not_fill_a_measured_row(make_record, toy_spec):
    external = make_record("toy_lt/plain", kind="external", stage1=None)
    row = rows_of(toy_spec, [external])["Plain"]
    assert row.state == "not run" and row.measured == {}


def test_records_with_other_facts_are_left_out_and_named(make_record, toy_spec):
    record = with_dataset(make_record(), facts={"imbalance_factor": 10})
    section = section_of(toy_spec, [record])
    assert section.rows[0].state == "not run"
    note = "Left out: toy_lt/plain, seed 0: its imbalance_factor is 10 and not 100."
    assert note in section.notes


def test_rows_measured_on_different_data_are_named(make_record, toy_spec):
    records = [make_record(), with_dataset(make_record("toy_lt/crt"), identity="cd" * 32)]
    notes = section_of(toy_spec, records).notes
    assert "Not comparable: these were measured on different data: Plain; cRT." in notes
    same = section_of(toy_spec, [make_record(), make_record("toy_lt/crt")]).notes
    assert not any(note.startswith("Not comparable") for note in same)


def test_seeds_of_different_versions_of_the_code_are_named(make_record, toy_spec):
    def noted(*records):
        return [note for note in section_of(toy_spec, records).notes if "different versions" in note]

    def trained_by(record, commit, threads):
        call = {**record.code, "commit": commit, "environment": {"threads": threads}}
        return dataclasses.replace(record, stage1={**record.stage1, "trained_by": [call]})

    newer = {"version": "0.1.0", "commit": "b" * 40, "dirty": False}
    same = [make_record(), make_record(seed=1), make_record("toy_lt/crt", 0)]
    assert noted(*same) == []
    told = "Seeds of one row were measured by different versions of the code: Plain."
    assert noted(*same, make_record("toy_lt/plain", 2, code=newer)) == [told]
    trained = [trained_by(make_record(seed=seed), "a" * 40, threads=seed) for seed in range(2)]
    assert noted(*trained, same[2]) == [], "where it was trained is no version"
    (call,) = trained[1].stage1["trained_by"]
    calls = [call, {**call, "environment": {"threads": 7}, "processes": 2}]
    resumed = dataclasses.replace(trained[1], stage1={**trained[1].stage1, "trained_by": calls})
    assert noted(trained[0], resumed, same[2]) == [], "nor is that it was resumed elsewhere"
    assert noted(trained[0], trained_by(make_record(seed=1), "c" * 40, 1), same[2]) == [told]


def test_notes_state_seeds_convention_and_sources(make_record, toy_spec):
    records = [make_record(seed=0), make_record(seed=1), make_record("toy_lt/crt", 1)]
    notes = section_of(toy_spec, records).notes
    assert notes[0] == (
        "Measured on the test split, in percent: mean ± half-width of the 95% Student-t interval "
        "over seeds. Seeds: 0, 1 (Plain); 1 (cRT)."
    )
    assert "Selection: nothing selected." in notes
    assert "Batch norm of the frozen backbone: eval." in notes
    assert any("convention 'strict'" in note and "2/1/1 classes" in note for note in notes)
    assert (
        "Published: A paper, Table 1, read at source (Plain, cRT); Another paper, quoted elsewhere "
        "(CE, elsewhere)."
    ) in notes
    # (2 * 60 + 40 + 9) / 4 = 42.25
    assert notes[-1].endswith("weighted by class counts: cRT, 51.25 published, 42.2 implied.")


def test_the_paper_tables_build_without_records():
    for name in ("table1", "table2", "table3", "table4"):
        for section in build_table(load_spec(name), []).sections:
            assert section.notes[0] == "Measured: no record yet."
            assert {row.state for row in section.rows} == {"not run"}


def test_the_terminal_shows_a_label_as_it_is(make_record):
    console = Console(file=io.StringIO(), width=200)
    console.print(
        result_table([make_record(label="Ours [v2]"), make_record("toy_lt/crt", label="[/b] [red]")])
    )
    printed = console.file.getvalue()
    assert "Ours [v2]" in printed and "[/b] [red]" in printed
