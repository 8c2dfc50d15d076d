"""Choosing a method's parameters: one rule for every method, on the validation split.

The rule: every point of the grid is trained and scored on validation with every seed; the point with the
highest mean of per-class accuracies, averaged over the seeds, is chosen, and of equals the first in the
grid's order. The test split is not read. What was chosen goes into the config by hand, with the report beside
the leaderboards as its evidence.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from lt_bench.config import Experiment, load_experiment, portable_dataset
from lt_bench.data.dataset import LongTailData
from lt_bench.engine.stage1 import Unfinished
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import code_version
from lt_bench.evaluation.record import utc_now
from lt_bench.evaluation.report import Scores, evaluate
from lt_bench.files import check_writable, write_atomically
from lt_bench.run.finishing import fit_job, open_once
from lt_bench.run.jobs import Job, Settings, jobs_of
from lt_bench.run.shared_stage1 import held, train_group

RULE = (
    "the highest mean class accuracy on the validation split, averaged over the seeds; "
    "of equals the first in the grid's order"
)
# A search ends in a number for a table only by way of a config: it is bounded to keep it a choice.
MOST_POINTS = 200


def search(
    config: str,
    grid: Mapping[str, Sequence[Any]],
    seeds: Sequence[int],
    *,
    options: Mapping[str, Any],
    work_dir: Path,
    out: Path,
    unfinished: Unfinished | None = None,
    replace: bool = False,
    console: Console,
) -> tuple[dict[str, Any], Path]:
    """Score every point of a grid on validation and choose.

    Args:
        config: a config's name or path.
        grid: values by dotted key of the config.
        seeds: one run each.
        options: further overrides, as of ``--cfg-options``.
        work_dir: folder of stage-1 artefacts; points that share a stage 1 train it once.
        out: folder of reports.
        unfinished: what becomes of unfinished or damaged stages.
        replace: write over the report of another search.
        console: where a person reads.

    Returns:
        The report and its path, ``<out>/<config name>.json``: ``config``, ``rule``, ``grid``, ``seeds``,
        ``dataset``, ``points`` (``values``, and ``mean_class`` and ``overall`` in percent by seed),
        ``chosen``, ``code`` and ``created``.

    Raises:
        LTBenchError: anything that a person can mend; a dataset without a validation split; a method that
            chooses on the test split; a grid of more than :data:`MOST_POINTS` points; the report of another
            search of this config lies in ``out``.
    """
    for key in grid:
        if key in options:
            raise LTBenchError(f"--grid and --cfg-options both set {key}; give it once")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(points) > MOST_POINTS:
        raise LTBenchError(f"the grid has {len(points)} points, {MOST_POINTS} are the most; search in steps")
    experiments = [load_experiment(config, {**options, **point}) for point in points]
    code = code_version()
    check_writable(out)
    first = experiments[0]
    asked = {
        "config": first.name,
        "rule": RULE,
        "grid": {key: list(values) for key, values in grid.items()},
        "options": {key: value for key, value in options.items() if not key.startswith("dataset.")},
        "seeds": list(seeds),
        "dataset": portable_dataset(first.config["dataset"]),
    }
    path = out / f"{first.name}.json"
    if not replace:
        _check_report(path, asked)
    settings = Settings(work_dir, out, unfinished)
    scored = _on_validation(points, experiments, seeds, settings, console, code)
    means = [math.fsum(point["mean_class"]) / len(seeds) for point in scored]
    report = {
        **asked,
        "points": scored,
        "chosen": points[means.index(max(means))],
        "code": code,
        "created": utc_now(),
    }
    write_atomically(path, json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return report, path


def _check_report(path: Path, asked: Mapping[str, Any]) -> None:
    """Refuse to write over the report of another search: it may be a choice's only evidence."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise LTBenchError(f"{path} is no report of a search; move it away, or give another --out") from error
    # As it would be read again.
    wanted = json.loads(json.dumps(asked))
    differing = [key for key in wanted if not isinstance(there, dict) or there.get(key) != wanted[key]]
    if differing:
        raise LTBenchError(
            f"{path} is the report of another search ({', '.join(differing)} differ); give another --out, or "
            "--replace to write over it"
        )


def _on_validation(
    points: Sequence[Mapping[str, Any]],
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    settings: Settings,
    console: Console,
    code: dict[str, Any],
) -> list[dict[str, Any]]:
    """The points with their validation accuracies by seed; those of one stage 1 are fitted together."""
    datasets: dict[str, LongTailData] = {}
    jobs = [
        (index, job)
        for index, experiment in enumerate(experiments)
        for job in jobs_of([experiment], seeds, settings, datasets)
    ]
    for _, job in jobs:
        _refuse_test(job, job.classifier.select_on)
        if job.stage.data.val is None:
            raise LTBenchError(
                f"a search chooses on validation, which {job.stage.data.name} lacks; hold out a part of its "
                "training images (dataset.val_per_class)"
            )
    found: dict[tuple[int, int], Scores] = {}
    for identity in dict.fromkeys(job.stage.identity for _, job in jobs):
        group = [(index, job) for index, job in jobs if job.stage.identity == identity]
        own = [job for _, job in group]
        with held(own):
            train_group(own, settings, console, code)
            opened: dict[str, FrozenRepresentation] = {}
            for index, job in group:
                scores = _score(job, open_once(job, opened), console)
                found[index, job.seed] = scores
                point = points[index].items()
                told = ", ".join(f"{key.removeprefix('method.')}={value}" for key, value in point)
                console.print(
                    f"{told}, seed {job.seed}: {scores.mean_class:.1f} on validation", soft_wrap=True
                )
    return [
        {
            "values": point,
            "mean_class": [found[index, seed].mean_class for seed in seeds],
            "overall": [found[index, seed].overall for seed in seeds],
        }
        for index, point in enumerate(points)
    ]


def _refuse_test(job: Job, *splits: str) -> None:
    if "test" in splits:
        raise LTBenchError(
            f"{job.experiment.name} chooses on the test split, which a search does not touch; let it choose "
            "on validation, or search another config"
        )


def _score(job: Job, representation: FrozenRepresentation, console: Console) -> Scores:
    fitted = fit_job(job, representation, console)
    # What is known only now, a method of one's own say.
    _refuse_test(job, fitted.classifier.selected_on, fitted.chosen_on)
    found = fitted.logits("val")
    if found is None:
        raise RuntimeError("a dataset with a validation split has its features")
    (logits, labels), task = found, job.stage.task
    return evaluate(logits, labels, task.counts.to(logits.device), task.convention)
