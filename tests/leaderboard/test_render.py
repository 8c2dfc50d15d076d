"""Exact output of every renderer."""

from __future__ import annotations

import dataclasses
import io
import json

import pandas as pd
import pytest

from lt_bench.errors import LTBenchError
from lt_bench.leaderboard.build import build_table
from lt_bench.leaderboard.render import escape_latex, render
from lt_bench.leaderboard.table import Table

# ruff: noqa: E501  lines of tables are as long as they are
MARKDOWN = r"""
# Toy

## Toy-LT, small

| Method                  |    Overall |       Many |     Medium |        Few |          Seeds |   Overall, published |   Many, published |   Medium, published |   Few, published |
|:------------------------|-----------:|-----------:|-----------:|-----------:|---------------:|---------------------:|------------------:|--------------------:|-----------------:|
| Plain                   | 50.8 ± 4.7 | 73.0 ± 9.0 | 40.0 ± 5.0 | 17.3 ± 5.7 |        3 seeds |                 48.0 |                   |                     |                  |
| τ-norm                  |       50.0 |       70.0 |       40.0 |       20.0 |       (1 seed) |                      |                   |                     |                  |
| cRT                     |    not run |            |            |            |                |                51.25 |              60.0 |                40.0 |              9.0 |
| CE, elsewhere           |          – |            |            |            |                |                 47.5 |                   |                     |                  |
| A \| B_1 & C (external) |       50.0 |       70.0 |       40.0 |       20.0 | (seed unknown) |                      |                   |                     |                  |

- Measured on the test split, in percent: mean ± half-width of the 95% Student-t interval over seeds. Seeds: 0, 1, 2 (Plain); 0 (τ-norm); unknown (A | B_1 & C).
- Stage 1, of the rows that have one: toy, 20 epochs.
- Selection: nothing selected.
- Checkpoint: last.
- Batch norm of the frozen backbone: eval.
- Shot groups by training count t, convention 'strict': many t > 100, medium 20 <= t <= 100, few t < 20; 2/1/1 classes.
- External: predictions of a model that was not trained here, scored here.
- Published: A paper, Table 1, read at source (Plain, cRT); Another paper, quoted elsewhere (CE, elsewhere).
- Published rows whose overall is more than 0.5 from their group means, weighted by class counts: cRT, 51.25 published, 42.2 implied.
"""

LATEX = r"""
% toy: Toy-LT, small
\begin{tabular}{lrrrrrrrrr}
\toprule
 & \multicolumn{5}{c}{Measured} & \multicolumn{4}{c}{Published} \\
\cmidrule(lr){2-6} \cmidrule(lr){7-10}
Method & Overall & Many & Medium & Few & Seeds & Overall & Many & Medium & Few \\
\midrule
Plain & 50.8 $\pm$ 4.7 & 73.0 $\pm$ 9.0 & 40.0 $\pm$ 5.0 & 17.3 $\pm$ 5.7 & 3 seeds & 48.0 &  &  &  \\
$\tau$-norm & 50.0 & 70.0 & 40.0 & 20.0 & (1 seed) &  &  &  &  \\
cRT & not run &  &  &  &  & 51.25 & 60.0 & 40.0 & 9.0 \\
CE, elsewhere & -- &  &  &  &  & 47.5 &  &  &  \\
A \textbar{} B\_1 \& C (external) & 50.0 & 70.0 & 40.0 & 20.0 & (seed unknown) &  &  &  &  \\
\bottomrule
\end{tabular}

\par\footnotesize Measured on the test split, in percent: mean $\pm$ half-width of the 95\% Student-t interval over seeds. Seeds: 0, 1, 2 (Plain); 0 ($\tau$-norm); unknown (A \textbar{} B\_1 \& C).
\par\footnotesize Stage 1, of the rows that have one: toy, 20 epochs.
\par\footnotesize Selection: nothing selected.
\par\footnotesize Checkpoint: last.
\par\footnotesize Batch norm of the frozen backbone: eval.
\par\footnotesize Shot groups by training count t, convention 'strict': many t $>$ 100, medium 20 $\le$ t $\le$ 100, few t $<$ 20; 2/1/1 classes.
\par\footnotesize External: predictions of a model that was not trained here, scored here.
\par\footnotesize Published: A paper, Table 1, read at source (Plain, cRT); Another paper, quoted elsewhere (CE, elsewhere).
\par\footnotesize Published rows whose overall is more than 0.5 from their group means, weighted by class counts: cRT, 51.25 published, 42.2 implied.
"""

CSV = """
table,section,label,config,state,seeds,convention,selected_on_test,epochs,recipe_epochs,overall,overall_interval,mean_class,mean_class_interval,many,many_interval,medium,medium_interval,few,few_interval,worst_class,worst_class_interval,macro_f1,macro_f1_interval,ece,ece_interval,published_overall,published_many,published_medium,published_few,source,evidence
toy,"Toy-LT, small",Plain,toy_lt/plain,measured,0 1 2,strict,false,20,20,50.8333,4.7024,50.8333,4.7024,73.0000,8.9567,40.0000,4.9683,17.3333,5.7369,17.3333,5.7369,49.3311,4.3251,1.1667,3.9927,48.0,,,,"A paper, Table 1",read at source
toy,"Toy-LT, small",τ-norm,toy_lt/tau_norm,measured,0,strict,false,20,20,50.0000,,50.0000,,70.0000,,40.0000,,20.0000,,20.0000,,48.7179,,0.0000,,,,,,,
toy,"Toy-LT, small",cRT,toy_lt/crt,not run,,strict,,,,,,,,,,,,,,,,,,,,51.25,60.0,40.0,9.0,"A paper, Table 1",read at source
toy,"Toy-LT, small","CE, elsewhere",,published only,,strict,,,,,,,,,,,,,,,,,,,,47.5,,,,Another paper,quoted elsewhere
toy,"Toy-LT, small",A | B_1 & C,external/x,external,,strict,false,,,50.0000,,50.0000,,70.0000,,40.0000,,20.0000,,20.0000,,48.7179,,0.0000,,,,,,,
"""


@pytest.fixture
def table(make_record, toy_spec) -> Table:
    hits = [(40, 30, 20, 10), (42, 35, 21, 8), (39, 33, 19, 8)]
    records = [make_record(seed=seed, hits=hit) for seed, hit in enumerate(hits)]
    records.append(make_record("toy_lt/tau_norm", selected={"tau": 0.7}))
    external = {"kind": "external", "label": "A | B_1 & C", "stage1": None, "config": {}}
    records.append(make_record("external/x", None, **external))
    return build_table(toy_spec, records)


def test_markdown(table):
    assert render(table, "md") == MARKDOWN.lstrip("\n")


@pytest.mark.parametrize("label", ["A|B", "A\nB", "A\r\n|B"])
def test_no_label_breaks_a_markdown_table(make_record, toy_spec, label):
    rows = (dataclasses.replace(toy_spec.sections[0].rows[0], label=label), *toy_spec.sections[0].rows[1:])
    section = dataclasses.replace(toy_spec.sections[0], rows=rows, reference=rows[0].config)
    spec = dataclasses.replace(toy_spec, sections=(section,))
    records = [make_record(seed=seed) for seed in (0, 1)]
    rendered = render(build_table(spec, records), "md").split("\n\n")[2]
    lines = rendered.split("\n")
    assert len(lines) == 2 + len(rows)
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_latex(table):
    assert render(table, "tex") == LATEX.lstrip("\n")


def test_no_label_is_an_argument_of_the_line_before_it(make_record, toy_spec):
    starred = [make_record("mine/a", label="[v2] Ours"), make_record("mine/b", label="*new")]
    rendered = render(build_table(toy_spec, starred), "tex")
    assert "\n{}[v2] Ours & " in rendered and "\n{}*new & " in rendered


def test_csv(table):
    text = render(table, "csv")
    assert text == CSV.lstrip("\n")
    frame = pd.read_csv(io.StringIO(text))
    assert frame.loc[frame.state != "measured", "overall_interval"].isna().all()
    assert frame.loc[frame.state == "not run", "overall"].isna().all()


def test_json(table):
    content = json.loads(render(table, "json"))
    (section,) = content["sections"]
    assert section["class_counts"] == {"many": 2, "medium": 1, "few": 1}
    assert section["notes"] == list(table.sections[0].notes)
    plain, tau, crt, elsewhere, _ = section["rows"]
    assert plain["seeds"] == [0, 1, 2] and plain["state"] == "measured"
    assert plain["measured"]["overall"] == {"mean": 50.8333, "half_width": 4.7024}
    published = {"overall": 48.0, "source": "A paper, Table 1", "evidence": "read at source"}
    assert plain["published"] == published
    assert tau["measured"]["few"] == {"mean": 20.0, "half_width": None}
    assert tau["selected"] == [{"tau": 0.7}] and tau["published"] is None
    assert crt["measured"] is None and crt["state"] == "not run"
    assert elsewhere["config"] is None and elsewhere["state"] == "published only"


def test_an_empty_group_is_no_such_class(make_record, toy_spec):
    record = make_record()
    counts = [500, 400, 5, 5]
    dataset = {**record.dataset, "counts": counts}
    record = make_record(dataset=dataset)
    text = render(build_table(toy_spec, [record]), "md")
    line = next(line for line in text.splitlines() if line.startswith("| Plain"))
    assert [cell.strip() for cell in line.split("|")][2:7] == [
        "50.0",
        "70.0",
        "no such class",
        "30.0",
        "(1 seed)",
    ]


def test_columns_of_published_figures_appear_only_where_there_are_any(toy_spec):
    section = toy_spec.sections[0]
    rows = tuple(row for row in section.rows if row.published is None)
    bare = dataclasses.replace(toy_spec, sections=(dataclasses.replace(section, rows=rows),))
    assert "ublished" not in render(build_table(bare, []), "md")
    assert "ublished" not in render(build_table(bare, []), "tex")
    assert "published_" not in render(build_table(bare, []), "csv")


def test_an_unknown_format_is_refused(table):
    with pytest.raises(LTBenchError, match="unknown table format 'mdd': did you mean 'md'"):
        render(table, "mdd")


def test_latex_escapes():
    assert escape_latex(r"a_b & 5% {x} ~ ^ \ #1 $") == (
        r"a\_b \& 5\% \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \#1 \$"
    )
    assert escape_latex("1 <= t < 2 >= τ ± † –") == (r"1 $\le$ t $<$ 2 $\ge$ $\tau$ $\pm$ $^\dagger$ --")
