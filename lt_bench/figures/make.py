"""One call: what is asked for in; a figure, its data as CSV and what it shows in words out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lt_bench.default_folders import RECORDS, WORK
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.errors import LTBenchError, near_names
from lt_bench.figures import plots
from lt_bench.figures.canvas import check_format, render
from lt_bench.figures.class_accuracy import class_accuracy, find_records
from lt_bench.figures.finished_stage import chosen_epochs, finished_stage
from lt_bench.figures.hard_examples import HARD_LOSS, hard_examples
from lt_bench.figures.loss_increase import epoch_pairs, group_points
from lt_bench.figures.snapshot_map import embed, epoch_silhouette, middle_classes, panels, shown_features
from lt_bench.files import write_atomically
from lt_bench.fitting import HeadRecipe
from lt_bench.run.jobs import Job
from lt_bench.snapshots.plan import class_specific_plan

# Epochs shown unless others are asked for.
PAIRED, MAPPED = 12, 4


@dataclass(frozen=True)
class Asked:
    """What a person asks for; None takes the figure's default, and is all that other figures may have.

    Attributes:
        names: one config for figures 3, 4 and 5b; records or names of configs for per-class.
        seed: the run's seed.
        cfg_options: overrides of the config, dotted keys.
        work_dir: folder of stage-1 artefacts.
        epochs: those to show.
        hard_loss: the loss above which an example is hard, in nats.
        records: folder of run records.
        window: classes to smooth over.
    """

    names: Sequence[str]
    seed: int | None = None
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    work_dir: Path | None = None
    epochs: Sequence[int] | None = None
    hard_loss: float | None = None
    records: Path | None = None
    window: int | None = None


@dataclass(frozen=True)
class Made:
    """A figure before it is drawn.

    Attributes:
        data: what it shows.
        draw: draws it.
        said: what it shows, in words.
    """

    data: pd.DataFrame
    draw: Callable[[], Figure]
    said: list[str]


def make(figure: str, asked: Asked, out: Path) -> tuple[list[str], list[Path]]:
    """Make a figure and write it, with its data beside it; nothing is written before all is made.

    Args:
        figure: one of :data:`FIGURES`.
        asked: of what.
        out: a ``.svg`` or ``.png`` file.

    Returns:
        What it shows in words, and the two files.

    Raises:
        LTBenchError: an unknown figure, an option of another one, missing snapshots or records, a folder that
            cannot be written.
    """
    if figure not in FIGURES:
        raise LTBenchError(f"unknown figure {figure!r}: {near_names(figure, FIGURES)}")
    function, takes = FIGURES[figure]
    for option in (item.name for item in fields(asked) if item.name != "names"):
        if getattr(asked, option) not in (None, {}) and option not in takes:
            known = ", ".join(map(_flag, takes))
            raise LTBenchError(f"{_flag(option)} is not for figure {figure}, which takes {known}")
    form = check_format(out.suffix)
    made = function(asked)
    content = render(made.draw, form)
    data = made.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return made.said, [write_atomically(out.with_suffix(".csv"), data), write_atomically(out, content)]


def figure_3(asked: Asked) -> Made:
    """Loss increase against training gain, see :mod:`lt_bench.figures.loss_increase`."""
    with _stage(asked) as (job, representation):
        epochs = chosen_epochs(asked.epochs, 1, representation.epochs, PAIRED)
        store = job.stage.store()
        snapshots = [store.read(epoch, representation.device) for epoch in epochs]
        recipe = HeadRecipe.of(job.experiment.config["classifier_recipe"])
        pairs = epoch_pairs(snapshots, recipe.weight_decay)
    points = group_points(pairs, representation.task.groups)
    said = [
        f"{len(pairs.gain)} pairs of the epochs {', '.join(map(str, epochs))}; on or above y = x/2 lie:",
        *(
            f"  {group}: {own['holds'].sum()} of {len(own)} points ({100 * own['holds'].mean():.1f}%); "
            f"of {(own['gain'] > 0).sum()} gains {((own['gain'] > 0) & (own['increase'] > 0)).sum()} have an "
            "increase above 0"
            for group, own in points.groupby("group", sort=False)
        ),
        f"  single classes: {int(pairs.holds.sum())} of {pairs.holds.numel()} "
        f"({100 * pairs.holds.double().mean():.1f}%)",
    ]
    return Made(points, lambda: plots.draw_loss_increase(points), said)


def figure_4(asked: Asked) -> Made:
    """t-SNE of snapshots, see :mod:`lt_bench.figures.snapshot_map`."""
    with _stage(asked) as (_, representation):
        task = representation.task
        classes = middle_classes(task.counts, task.groups)
        plan = class_specific_plan(task.counts)
        epochs = chosen_epochs(asked.epochs, plan.max_depth, representation.epochs, MAPPED)
        if len(epochs) > plots.MOST_COLOURS:
            raise LTBenchError(
                f"{plots.MOST_COLOURS} epochs can be told apart in figure 4, got {len(epochs)}; name fewer"
            )
        features, points = shown_features(representation.replay(plan), classes, epochs, representation.seed)
    points[["x", "y"]] = embed(features, representation.seed).numpy()
    counts = {label: int(task.counts[label]) for label in classes.values()}
    said = ["silhouette of the epochs in the map (0: they lie on one another, 1: apart):"]
    said += [
        f"  {name} (class {own['class'].iloc[0]}): {epoch_silhouette(own):.3f} over {len(own)} points"
        for name, own in panels(points).items()
    ]
    return Made(points, lambda: plots.draw_snapshot_map(points, counts), said)


def figure_5b(asked: Asked) -> Made:
    """Hard examples, see :mod:`lt_bench.figures.hard_examples`."""
    threshold = HARD_LOSS if asked.hard_loss is None else asked.hard_loss
    if not 0 <= threshold < math.inf:
        raise LTBenchError(f"--hard-loss is a loss in nats from 0, got {threshold}")
    with _stage(asked) as (job, representation):
        classifier = job.experiment.config["method"]["classifier"]
        counts = hard_examples(representation, classifier, tuple(job.stage.data.splits()), threshold)
    said = [f"few-shot examples with a loss above {threshold:g} in classifier training:"]
    for variant, own in counts.groupby("variant", sort=False):
        late = own.tail(-(-len(own) // 2))
        said.append(
            f"  {variant}: {own['hard'].sum()} of {own['examples'].sum()} in {len(own)} epochs, "
            f"{late['hard'].sum()} of {late['examples'].sum()} in the last {len(late)}"
        )
    return Made(counts, lambda: plots.draw_hard_examples(counts, threshold), said)


def figure_per_class(asked: Asked) -> Made:
    """Per-class accuracies of records, see :mod:`lt_bench.figures.class_accuracy`."""
    records = find_records(asked.names, asked.records or RECORDS)
    curves = class_accuracy(records, asked.window)
    number = curves["config"].nunique()
    if number > plots.MOST_CURVES:
        raise LTBenchError(f"{plots.MOST_CURVES} curves can be told apart, got {number}; name fewer records")
    said = [f"{records[0].dataset['name']}: mean accuracy of classes in %, pooled over seeds"]
    for method, own in curves.groupby("method", sort=False):
        means = own.groupby("group", sort=False)["accuracy"].mean()
        told = ", ".join(f"{group} {mean:.1f}" for group, mean in means.items())
        seeds = int(own["seeds"].iloc[0])
        said.append(f"  {method} ({seeds} seed{'s' if seeds > 1 else ''}): {told}")
    return Made(curves, lambda: plots.draw_class_accuracy(curves), said)


FIGURES: dict[str, tuple[Callable[[Asked], Made], tuple[str, ...]]] = {
    "3": (figure_3, ("seed", "cfg_options", "work_dir", "epochs")),
    "4": (figure_4, ("seed", "cfg_options", "work_dir", "epochs")),
    "5b": (figure_5b, ("seed", "cfg_options", "work_dir", "hard_loss")),
    "per-class": (figure_per_class, ("records", "window")),
}


def _stage(asked: Asked) -> AbstractContextManager[tuple[Job, FrozenRepresentation]]:
    if len(asked.names) != 1:
        raise LTBenchError(f"this figure is of one config's stage 1, got {len(asked.names)}; name one")
    seed, work_dir = asked.seed or 0, asked.work_dir or WORK
    return finished_stage(asked.names[0], seed, asked.cfg_options, work_dir)


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
