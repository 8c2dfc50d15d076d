"""A rehearsal on generated images: whole runs, at the real counts, of a small network on a few pixels.

Every part of the harness is in it: data, samplers, MMEngine's runner, checkpoints, snapshots, trails, both
stages and records. Only the images, the network and the dimension of its features are small.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.device import get_device
from rich.console import Console

from lt_bench.config import Experiment, load_experiment
from lt_bench.data.class_counts import ClassCounts
from lt_bench.engine.checkpoints import allow_logs_in_checkpoints, saved_epochs
from lt_bench.errors import LTBenchError
from lt_bench.rehearsal.meter import Part, device_name
from lt_bench.rehearsal.report import Check, Report
from lt_bench.rehearsal.sizes import MORE_EPOCHS, folder_bytes, shard_bytes
from lt_bench.run import Settings, run
from lt_bench.snapshots.plan import class_specific_plan


@dataclass(frozen=True)
class ImageRehearsal:
    """What to rehearse.

    Attributes:
        epochs: E; None is as many as fill the longest trail, and three more.
        image_size: height and width in pixels.
        keep: snapshots that the store keeps: 0, a number, or ``"all"``; None is as the configs say.
        dtype: of the snapshots; None is as the configs say.
        schedule: epochs to which the figures are extrapolated.
        work_dir: folder for artefacts and records, removed at the end. None is the system's.
        seed: of the runs.

    Raises:
        LTBenchError: epochs, image size or schedule below 1.
    """

    epochs: int | None = None
    image_size: int = 8
    keep: Literal["all"] | int | None = None
    dtype: str | None = None
    schedule: int = 200
    work_dir: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "image_size", "schedule"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LTBenchError(f"a rehearsal's {name} is a whole number from 1, got {value}")


def rehearse_images(
    counts: ClassCounts,
    given: str,
    settings: ImageRehearsal,
    configs: Sequence[str],
    console: Console,
) -> Report:
    """Run the configs on generated images and measure.

    Args:
        counts: of the dataset.
        given: the name or file that they are of.
        settings: how long, how large.
        configs: names or paths of configs on ``generated_lt``, of one stage 1 or of several.
        console: where a person reads.

    Raises:
        LTBenchError: a config on other data, or anything that a run raises.
    """
    n_j = torch.tensor(counts.counts)
    plan = class_specific_plan(n_j)
    epochs = settings.epochs or plan.max_depth + MORE_EPOCHS
    experiments = [_experiment(name, given, epochs, settings) for name in configs]
    keep = [experiment.config["snapshots"]["keep"] for experiment in experiments]
    dtype = getattr(torch, experiments[0].config["snapshots"]["dtype"])
    device = torch.device(get_device())
    report = Report(
        facts={
            "rehearsed": "images",
            "dataset": counts.name,
            "counts": counts.source,
            "classes C": len(n_j),
            "training samples N": int(n_j.sum()),
            "n_B": plan.n_b,
            "snapshots of the rarest class": plan.max_depth,
            "image size": settings.image_size,
            "epochs": epochs,
            "dtype": str(dtype).removeprefix("torch."),
            "keep": str(keep[0]) if len(set(keep)) == 1 else str(keep),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
        }
    )
    with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=settings.work_dir) as folder:
        place = Settings(Path(folder) / "work", Path(folder) / "records")
        records = run(experiments, [settings.seed], place, console)
        seen: set[str] = set()
        for _, record in records:
            assert record.stage1 is not None, "what was run here has a stage 1"
            stage = record.stage1["identity"]
            if stage not in seen:
                seen.add(stage)
                report.parts.append(Part("stage 1, with its snapshots", 1, record.stage_seconds["stage1"]))
            report.parts.append(Part(f"{record.label}: classifier", 1, record.stage_seconds["classifier"]))
            report.parts.append(Part(f"{record.label}: evaluation", 1, record.stage_seconds["evaluation"]))
            report.facts[f"{record.label}: accuracy on generated data, %"] = f"{record.scores.overall:.1f}"
        for stage in sorted(seen):
            _look_into(place.work_dir / "stage1" / stage, experiments, n_j, epochs, dtype, report)
        report.disk["records"] = folder_bytes(place.records)
        report.disk["all files of the run"] = folder_bytes(Path(folder))
    where = "device's allocator" if device.type == "cuda" else "process, resident"
    # Of the records: every part of a run reads its own peak, and begins with a new one.
    report.memory[f"{where}, at the most"] = max(r.peak_memory_bytes or 0 for _, r in records)
    stage_seconds = sum(part.seconds for part in report.parts if part.name.startswith("stage 1"))
    report.extrapolated = {
        f"stage 1 of {settings.schedule} epochs, s": f"{stage_seconds / epochs * settings.schedule:,.1f}",
        "not rehearsed": "the dataset's own images, network and dimension; see a rehearsal of features",
    }
    return report


def _experiment(name: str, given: str, epochs: int, settings: ImageRehearsal) -> Experiment:
    options: dict[str, Any] = {
        "dataset.counts": str(Path(given).resolve()) if Path(given).is_file() else given,
        "dataset.image_size": settings.image_size,
        "stage1.epochs": epochs,
    }
    if settings.keep is not None:
        options["snapshots.keep"] = settings.keep
    if settings.dtype is not None:
        options["snapshots.dtype"] = settings.dtype
    plain = load_experiment(name)
    if plain.config["dataset"]["type"] != "generated_lt":
        raise LTBenchError(
            f"{name} is a config on {plain.config['dataset']['type']}; a rehearsal on images needs one on "
            "generated_lt, such as rehearsal/breadcrumb_strong"
        )
    if plain.config["snapshots"]["capture"] == "none":
        raise LTBenchError(
            f"{name} takes no snapshots, and those are what is rehearsed; set snapshots.capture to "
            "'training_forward' or 'epoch_end'"
        )
    return load_experiment(name, options)


def _look_into(
    folder: Path,
    experiments: Sequence[Experiment],
    n_j: torch.Tensor,
    epochs: int,
    dtype: torch.dtype,
    report: Report,
) -> None:
    allow_logs_in_checkpoints()
    last = saved_epochs(folder)[epochs]
    held = torch.load(last, map_location="cpu", weights_only=True)["snapshots"]
    classes, samples = len(n_j), int(n_j.sum())
    key = class_specific_plan(n_j)
    rows, dim = held["trails"][key.key]["features"].shape
    report.facts["dimensions d"] = dim
    report.checks.append(Check("features in the trail <= C n_B", rows, classes * key.n_b))
    # A trail of fixed length keeps whole snapshots, and no bound of C n_B.
    report.checks.append(
        Check(
            "features in the checkpoint, this trail and Z^E <= C n_B and N",
            rows + held["last"]["features"].shape[0],
            classes * key.n_b + samples,
        )
    )
    asked = [experiment.config["snapshots"]["keep"] for experiment in experiments]
    kept = epochs if "all" in asked else min(max(asked), epochs)
    each = shard_bytes(samples * dim * dtype.itemsize, classes * dim)
    stored = folder_bytes(folder / "snapshots")
    what = f"bytes on disk of {kept} kept snapshots: N d features, 2 C d moments and a header each"
    report.checks.append(Check(what, stored, kept * each))
    report.disk["snapshots on disk, at the end"] = stored
    report.disk["last checkpoint, with trails and Z^E"] = last.stat().st_size
