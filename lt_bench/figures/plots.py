"""Drawing what the other files compute; nothing is computed here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from lt_bench.evaluation.shots import FEW, GROUPS
from lt_bench.figures.canvas import COLOURS, COLUMN, PAGE
from lt_bench.figures.loss_increase import ALL
from lt_bench.figures.snapshot_map import EMANATE, panels

_GROUP_STYLE = {
    ALL: {"color": "#000000", "marker": "s"},
    "many": {"color": COLOURS[0], "marker": "o"},
    "medium": {"color": COLOURS[2], "marker": "^"},
    "few": {"color": COLOURS[1], "marker": "D"},
}
_VARIANT_STYLE: dict[str, dict[str, Any]] = {
    "weak": {"color": COLOURS[0], "linestyle": "--", "marker": "o", "zorder": 3},
    "strong": {"color": COLOURS[1], "linestyle": "-", "marker": "D"},
}
_LINES = ("-", "--", "-.", ":")
# As many as can be told apart, by colour and by curve.
MOST_COLOURS = len(COLOURS)
MOST_CURVES = len(COLOURS) * len(_LINES)
_LIGHT = "#999999"
# Nats on both sides of 0 that figure 3 shows on a linear scale.
_LINEAR = 0.01


def draw_loss_increase(points: pd.DataFrame) -> Figure:
    """Figure 3, from :func:`lt_bench.figures.loss_increase.group_points`."""
    figure, axes = _one(COLUMN, 3.0)
    for group, own in points.groupby("group", sort=False):
        label = "all classes" if group == ALL else f"{group}-shot"
        share = f"{100 * own['holds'].mean():.0f}% above"
        axes.scatter(
            own["gain"],
            own["increase"],
            s=9,
            linewidths=0.6,
            facecolors="none",
            edgecolors=_GROUP_STYLE[str(group)]["color"],
            marker=_GROUP_STYLE[str(group)]["marker"],
            label=f"{label}: {share}",
        )
    # Many pairs near 0 and some far from it: logarithmic but for the middle, where the bound is bent.
    axes.set_xscale("symlog", linthresh=_LINEAR)
    axes.set_yscale("symlog", linthresh=_LINEAR)
    gains = np.linspace(points["gain"].min(), points["gain"].max(), 1000)
    axes.plot(gains, gains / 2, color=_LIGHT, zorder=0, label="half of the gain")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("training gain between two epochs (nats)")
    axes.set_ylabel("loss increase by EMANATE (nats)")
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1)
    return figure


def draw_snapshot_map(points: pd.DataFrame, counts: dict[int, int]) -> Figure:
    """Figure 4, from the map's points and the training images of the classes shown."""
    shown = panels(points)
    figure = Figure(figsize=(PAGE, PAGE / len(shown) + 0.75), layout="constrained")
    epochs = sorted(points["epoch"].unique())
    for place, (name, own) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(1, len(shown), place)
        for epoch in epochs:
            part = own[own["epoch"] == epoch]
            colour = COLOURS[epochs.index(epoch)]
            for source, of_source in part.groupby("source", sort=False):
                style: dict[str, Any] = (
                    {"marker": "o", "s": 4, "alpha": 0.7, "linewidths": 0}
                    if source == EMANATE
                    else {"marker": "o", "s": 13, "linewidths": 0.4, "edgecolors": "white"}
                )
                axes.scatter(of_source["x"], of_source["y"], color=colour, **style)
        images = counts[int(own["class"].iloc[0])]
        group, _, after = name.partition(", ")
        axes.set_title(f"{group}-shot ({images} images)" + (f"\nwith {after}" if after else "\n"))
        # The units of a t-SNE map mean nothing.
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("t-SNE 1")
        if place == 1:
            axes.set_ylabel("t-SNE 2")
        # The few-shot class before EMANATE within the limits of that after it.
        _square(axes, shown[list(shown)[-1]] if group == GROUPS[FEW] else own)
    marks: list[Any] = [
        axes.scatter([], [], s=13, color=COLOURS[number], label=f"epoch {epoch}")
        for number, epoch in enumerate(epochs)
    ]
    marks.append(axes.scatter([], [], s=4, color=_LIGHT, label="back-tracked and aligned"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return figure


def draw_hard_examples(counts: pd.DataFrame, threshold: float) -> Figure:
    """Figure 5b, from :func:`lt_bench.figures.hard_examples.hard_examples`."""
    figure, axes = _one(COLUMN, 2.3)
    for variant, own in counts.groupby("variant", sort=False):
        axes.plot(own["epoch"], own["hard"], label=str(variant), markersize=2, **_VARIANT_STYLE[str(variant)])
    # Early epochs have by far the most; below 1 the scale is linear, so that 0 has a place.
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch of classifier training")
    axes.set_ylabel(f"few-shot examples with loss > {threshold:g}")
    axes.legend(title="Breadcrumb")
    return figure


def draw_class_accuracy(curves: pd.DataFrame) -> Figure:
    """Per-class accuracies, from :func:`lt_bench.figures.class_accuracy.class_accuracy`."""
    number = curves["config"].nunique()
    figure, axes = _one(COLUMN, 2.4 + 0.13 * -(-number // 2))
    for place, (_, own) in enumerate(curves.groupby("config", sort=False)):
        colour = COLOURS[place % len(COLOURS)]
        label = str(own["method"].iloc[0])
        axes.scatter(own["rank"], own["accuracy"], s=3, color=colour, alpha=0.5, linewidths=0)
        line = _LINES[place // len(COLOURS)]
        axes.plot(own["rank"], own["smoothed"], color=colour, linestyle=line, label=label)
    ranked = curves.drop_duplicates("rank").sort_values("rank")
    _mark_groups(axes, ranked)
    last = int(ranked["rank"].max())
    axes.set_xlim(0.5, last + 0.5)
    axes.set_ylim(-2, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("class, from most to fewest training images")
    axes.set_ylabel("test accuracy (%)")
    top = axes.secondary_xaxis("top")
    shown = ranked.iloc[[round(step * (len(ranked) - 1) / 5) for step in range(6)]]
    top.set_xticks(shown["rank"].to_list(), [str(images) for images in shown["images"]])
    top.set_xlabel("training images of the class")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _mark_groups(axes: Axes, ranked: pd.DataFrame) -> None:
    """Lines between shot groups, and their names."""
    for group, ranks in ranked.groupby("group", sort=False)["rank"]:
        first, last = int(ranks.min()), int(ranks.max())
        axes.text((first + last) / 2, 108, str(group), ha="center", va="top", color="#555555")
        if last < int(ranked["rank"].max()):
            axes.axvline(last + 0.5, color=_LIGHT, linewidth=0.6, linestyle=":")


def _square(axes: Axes, points: pd.DataFrame) -> None:
    """Limits of one scale on both axes that hold the points."""
    low, high = points[["x", "y"]].min(), points[["x", "y"]].max()
    middle, half = (low + high) / 2, 0.55 * float((high - low).max())
    axes.set_xlim(middle["x"] - half, middle["x"] + half)
    axes.set_ylim(middle["y"] - half, middle["y"] + half)
    axes.set_aspect("equal")


def _one(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
