"""A rehearsal on generated features: the real counts, the real d, every part but the network.

What is run is what a run runs: :class:`SnapshotBuffer` takes a batch of features for every step of an epoch,
and at its end :class:`SnapshotRecorder` shows the snapshot to the classifiers that follow, writes it to the
store and pushes it onto the trails. Classifiers that want the last snapshot only are trained at the end, and
all of them are scored on a generated test split. The features are noise about a centre of their class that
drifts from epoch to epoch, rectified: what is in them changes none of the sizes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from lt_bench.config import DTYPES, Experiment
from lt_bench.data.class_counts import ClassCounts
from lt_bench.engine.stage2 import logits_of
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.report import evaluate
from lt_bench.evaluation.shots import shot_groups
from lt_bench.fitting import HeadRecipe, HeadTrainer, shuffled_batches
from lt_bench.method import Features, FollowingClassifier
from lt_bench.models.heads import linear_head
from lt_bench.registry import METHODS
from lt_bench.rehearsal.generated_features import GeneratedFeatures
from lt_bench.rehearsal.meter import Meter, device_name
from lt_bench.rehearsal.report import Check, Report
from lt_bench.rehearsal.sizes import MOMENT_BYTES, MORE_EPOCHS, shard_bytes
from lt_bench.rehearsal.timed import Timed, TimedFollower
from lt_bench.seeding import generator
from lt_bench.snapshots.assembly import assemble, class_balanced
from lt_bench.snapshots.buffer import SnapshotBuffer
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan
from lt_bench.snapshots.recorder import SnapshotRecorder
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.snapshots.trail import Trail
from lt_bench.task import Task

_STEPS = "train a linear classifier, some steps"
# Working copies of capture, moments and push beside the storage: blocks of 64 MB and the indices of N rows,
# a few of each; see snapshots/snapshot.py and snapshots/trail.py.
_WORKING_BLOCKS, _BLOCK_BYTES = 5, 64 * 2**20
_INDEX_BYTES = 64


@dataclass(frozen=True)
class FeatureRehearsal:
    """What to rehearse.

    Attributes:
        epochs: E; None is as many as fill the longest trail, and three more.
        dim: d; None is that of the dataset's published backbone.
        dtype: of the snapshots, a name of ``lt_bench.config.DTYPES``.
        batch_size: samples a step.
        keep: snapshots that the store keeps: 0, a number, or ``"all"``.
        steps: None trains the configs' classifiers, whole. A number trains a linear classifier on A^E for
            that many steps in their place, from which an epoch's time is computed: a large C d on a CPU.
        schedule: epochs to which the figures are extrapolated.
        work_dir: folder for the store; what is written there is removed at the end. None is the system's.
        seed: of the features and classifiers.

    Raises:
        LTBenchError: a number below its least, or an unknown dtype.
    """

    epochs: int | None = None
    dim: int | None = None
    dtype: str = "float16"
    batch_size: int = 512
    keep: Literal["all"] | int = 0
    steps: int | None = None
    schedule: int = 200
    work_dir: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("dim", 1), ("batch_size", 1), ("steps", 1), ("schedule", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise LTBenchError(f"a rehearsal's {name} is a whole number from {least}, got {value}")
        if self.keep != "all" and self.keep < 0:
            raise LTBenchError(f"a rehearsal keeps 'all' snapshots or a number from 0, got {self.keep}")
        if self.dtype not in DTYPES:
            raise LTBenchError(f"a rehearsal's dtype is one of {', '.join(DTYPES)}; got {self.dtype!r}")


def rehearse_features(
    counts: ClassCounts,
    settings: FeatureRehearsal,
    experiments: Sequence[Experiment],
    progress: Callable[[Sequence[int]], Iterator[int]] = iter,
) -> Report:
    """Run it and measure.

    Args:
        counts: of the dataset.
        settings: how long, how large.
        experiments: configs whose classifiers are trained on the trails; no more of them is used.
        progress: wraps the sequence of epochs, for a person to watch.

    Raises:
        LTBenchError: a config whose classifier is not trained on snapshots, or has a trail longer than
            the epochs; a folder that cannot be written.
    """
    device = torch.device(get_device())
    n_j = torch.tensor(counts.counts)
    task = Task(
        counts.name,
        tuple(map(str, range(len(n_j)))),
        n_j,
        "strict",
        shot_groups(n_j, "strict").to(torch.int8),
    )
    classifiers = {experiment.label: _classifier(experiment, task) for experiment in experiments}
    plans = {class_specific_plan(n_j), *(each.plan() for each in classifiers.values())}
    epochs = settings.epochs or max(plan.max_depth for plan in plans) + MORE_EPOCHS
    if settings.steps is None:  # else no classifier is trained whole
        for classifier in classifiers.values():
            classifier.check(splits=("train", "test"), epochs=epochs)
    dim, dtype = settings.dim or counts.feature_dim, getattr(torch, settings.dtype)

    meter = Meter(device)
    source = GeneratedFeatures(task.num_classes, dim, device, settings.seed)
    labels = torch.arange(task.num_classes).repeat_interleave(n_j)
    labels_here = labels.to(device)
    before = meter.allocated()
    buffer = SnapshotBuffer(labels, task.num_classes, dim, dtype, device)
    timed = Timed(meter)
    trails = {plan: timed.trail(plan, dim, dtype, device) for plan in plans}
    followers = {
        label: TimedFollower(
            each.follower(feature_dim=dim, epochs=epochs, seed=settings.seed, device=device),
            meter,
            f"train {label}, an epoch",
        )
        for label, each in classifiers.items()
        if each.follows() and settings.steps is None
    }
    report = Report(facts=_facts(counts, settings, n_j, dim, epochs, device))
    shard = shard_bytes(task.num_samples * dim * dtype.itemsize, task.num_classes * dim)
    with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=settings.work_dir) as folder:
        store = None
        if settings.keep:
            store = timed.store(
                Path(folder) / "snapshots",
                labels=labels,
                num_classes=task.num_classes,
                identity="rehearsal",
                keep=settings.keep,
            )
        recorder = SnapshotRecorder(trails, followers, store)
        watched = progress(range(1, epochs + 1))
        last = _run_epochs(watched, epochs, source, labels_here, buffer, recorder, meter, settings)
        if store is not None:
            _read_back(store, last, meter, report)
        _stored(settings, timed, epochs, shard, report)
    _remembered(trails, buffer, timed, meter, before, report)
    if settings.steps is None:
        heads = _heads(classifiers, followers, recorder, meter, dim, epochs, settings, device)
    else:
        heads = _some_steps(recorder, meter, dim, settings, device)
    del followers, recorder
    _score(heads, source, counts, task, epochs, device, meter, report)
    report.parts = list(meter.parts.values())
    report.extrapolated = _extrapolate(report, meter, settings, epochs, shard)
    return report


def _facts(
    counts: ClassCounts, settings: FeatureRehearsal, n_j: Tensor, dim: int, epochs: int, device: torch.device
) -> dict[str, Any]:
    """What is rehearsed, for the report's head."""
    plan = class_specific_plan(n_j)
    return {
        "rehearsed": "features",
        "dataset": counts.name,
        "counts": counts.source,
        "classes C": len(n_j),
        "training samples N": int(n_j.sum()),
        "smallest and largest class": f"{int(n_j.min())} and {int(n_j.max())}",
        "n_B": plan.n_b,
        "snapshots of the rarest class": plan.max_depth,
        "dimensions d": dim,
        "dtype": settings.dtype,
        "epochs": epochs,
        "classifiers": "whole" if settings.steps is None else f"{settings.steps} steps on A^E",
        "keep": str(settings.keep),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def _run_epochs(
    numbers: Iterator[int],
    last: int,
    source: GeneratedFeatures,
    labels: Tensor,
    buffer: SnapshotBuffer,
    recorder: SnapshotRecorder,
    meter: Meter,
    settings: FeatureRehearsal,
) -> Snapshot:
    """Every epoch's batches into the buffer and its snapshot to the recorder; the last snapshot."""
    for epoch in numbers:
        order = torch.randperm(len(labels), generator=generator("cpu", settings.seed, "order", epoch))
        for batch in order.to(labels.device).split(settings.batch_size):
            with meter.part("generate features (no part of a run)"):
                features = source.of(labels[batch], batch, epoch)
            with meter.part("capture a batch"):
                buffer.capture(batch, features)
        with meter.part("finish a snapshot"):
            snapshot = buffer.finish(epoch)
        recorder.end_epoch(snapshot, last=epoch == last)
    if recorder.last is None:
        raise RuntimeError("a rehearsal has at least one epoch")
    return recorder.last


def _classifier(experiment: Experiment, task: Task) -> FollowingClassifier:
    built = METHODS.build({**experiment.config["method"]["classifier"], "task": task})
    if not isinstance(built, FollowingClassifier):
        raise LTBenchError(
            f"{experiment.name} trains no classifier on snapshots, so there is nothing to rehearse on "
            "features; give a config whose classifier does, or rehearse it on images"
        )
    return built


def _heads(
    classifiers: dict[str, FollowingClassifier],
    followers: dict[str, TimedFollower],
    recorder: SnapshotRecorder,
    meter: Meter,
    dim: int,
    epochs: int,
    settings: FeatureRehearsal,
    device: torch.device,
) -> dict[str, nn.Module]:
    """The heads of all classifiers; those that want Z^E and the trail before it are trained now."""
    last = recorder.last
    assert last is not None
    _assemble(recorder, meter, settings, device)
    heads = {}
    for label, each in classifiers.items():
        if label in followers:
            heads[label] = followers[label].follower.result().head
            continue
        follower = each.follower(feature_dim=dim, epochs=epochs, seed=settings.seed, device=device)
        with meter.part(f"train {label}, all its epochs"):
            follower.observe(last, recorder.trails[each.plan()])
        heads[label] = follower.result().head
    return heads


def _some_steps(
    recorder: SnapshotRecorder, meter: Meter, dim: int, settings: FeatureRehearsal, device: torch.device
) -> dict[str, nn.Module]:
    """A linear classifier after the first steps of an epoch on A^E."""
    last = recorder.last
    assert last is not None and settings.steps is not None
    features, labels = _assemble(recorder, meter, settings, device)
    head = linear_head(dim, len(last.counts), settings.seed)
    trainer = HeadTrainer(head, HeadRecipe(epochs=1, batch_size=settings.batch_size), device)
    draw = generator(device, settings.seed, "steps")
    batches = shuffled_batches(features, labels, settings.batch_size, draw)
    with meter.part(_STEPS):
        trainer.epoch(1, islice(batches, settings.steps))
    return {f"a linear classifier after {settings.steps} steps": trainer.head}


def _assemble(
    recorder: SnapshotRecorder, meter: Meter, settings: FeatureRehearsal, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A^E, or a class-balanced draw from Z^E where the run is too short for trails."""
    last = recorder.last
    assert last is not None
    plan = class_specific_plan(last.counts)
    draw = generator(device, settings.seed, "assembly")
    if not recorder.trails[plan].ready(last.epoch):
        return class_balanced(last, plan.n_b, draw)
    with meter.part("assemble A^E"):
        return assemble(last, recorder.trails[plan], alignment="mean", generator=draw)


def _score(
    heads: dict[str, nn.Module],
    source: GeneratedFeatures,
    counts: ClassCounts,
    task: Task,
    epochs: int,
    device: torch.device,
    meter: Meter,
    report: Report,
) -> None:
    labels = torch.arange(task.num_classes).repeat_interleave(counts.test_per_class).to(device)
    # Numbers that no training sample has.
    samples = torch.arange(len(labels), device=device) + task.num_samples
    test = Features(source.of(labels, samples, epochs), labels)
    report.facts["test samples"] = len(labels)
    for label, head in heads.items():
        with meter.part("score a classifier"):
            scores = evaluate(logits_of(head, test), labels, task.counts.to(device), task.convention)
        report.facts[f"{label}: accuracy on generated data, %"] = f"{scores.overall:.1f}"


def _read_back(store: SnapshotStore, last: Snapshot, meter: Meter, report: Report) -> None:
    with meter.part("read a snapshot"):
        held = store.read(last.epoch, last.features.device)
    same = all(torch.equal(getattr(held, name), getattr(last, name)) for name in ("features", "mean", "std"))
    report.checks.append(Check("Z^E reads back bit for bit (1)", int(same), 1, exact=True))


def _stored(settings: FeatureRehearsal, timed: Timed, epochs: int, shard: int, report: Report) -> None:
    kept = epochs if settings.keep == "all" else min(settings.keep, epochs)
    measured = max(timed.stores, default=0)
    report.disk["snapshots on disk, at the most after a write"] = measured
    what = f"bytes on disk of {kept} kept snapshots: N d features, 2 C d moments and a header each"
    report.checks.append(Check(what, measured, kept * shard))


def _remembered(
    trails: dict[BacktrackPlan, Trail],
    buffer: SnapshotBuffer,
    timed: Timed,
    meter: Meter,
    before: int | None,
    report: Report,
) -> None:
    dim, itemsize = buffer.features.shape[1], buffer.features.dtype.itemsize
    stated = moments = 0
    for plan, trail in trails.items():
        classes, n_b = plan.num_classes, plan.n_b
        rows = trail.features.shape[0]
        bound = classes * n_b if plan.kind == "class_specific" else int((plan.slots * plan.counts).sum())
        what = "C n_B" if plan.kind == "class_specific" else "C classes' (length - 1) n_j"
        report.checks.append(Check(f"features in the trail <= {what}", rows, bound))
        stated += bound
        moments += trail.mean.numel() + trail.std.numel() + trail.epoch_mean.numel()
    held = sum(trail.features.nbytes for trail in trails.values()) + buffer.features.nbytes
    report.memory["the epoch in flight"] = buffer.features.nbytes
    report.memory["trail: features"] = sum(trail.features.nbytes for trail in trails.values())
    report.memory["trail: class means and deviations"] = moments * MOMENT_BYTES
    samples = len(buffer.features)
    allowed = (stated + samples) * dim * itemsize
    report.checks.append(Check("bytes of trail and epoch in flight <= (C n_B + N) d features", held, allowed))
    began, after = timed.trail_began, timed.trail_bytes or timed.trail_began
    report.checks.append(Check("bytes of a trail after any push are those it began with", after, began))
    peak = meter.peak(["capture a batch", "finish a snapshot", "push onto the trail"])
    if peak is None or before is None:
        return
    snapshot_moments = 2 * 2 * len(buffer.counts) * dim
    working = _WORKING_BLOCKS * _BLOCK_BYTES + _INDEX_BYTES * (samples + stated)
    allowed += (moments + snapshot_moments) * MOMENT_BYTES + working
    where = "device" if meter.device.type == "cuda" else "resident"
    report.memory[f"{where} before snapshots"] = before
    report.memory[f"{where} at the most in capture, finish and push"] = peak
    # A classifier that follows is there as well, with its gradients and momentum.
    heads = 4 * sum(1 for name in meter.parts if name.startswith("train ")) * len(buffer.counts) * (dim + 1)
    report.checks.append(
        Check(
            f"{where} bytes that capture, finish and push add at their peak <= the above, moments, "
            "classifiers and working blocks",
            peak - before,
            allowed + heads * MOMENT_BYTES,
        )
    )


def _extrapolate(
    report: Report, meter: Meter, settings: FeatureRehearsal, epochs: int, shard: int
) -> dict[str, Any]:
    to = settings.schedule
    parts = meter.parts
    snapshots = sum(
        parts[name].seconds
        for name in ("capture a batch", "finish a snapshot", "push onto the trail")
        if name in parts
    )
    found: dict[str, Any] = {
        f"capture, finish and push in {to} epochs, s": f"{snapshots / epochs * to:,.1f}",
        f"snapshots of {to} epochs on disk with keep='all', GB": f"{to * shard / 1e9:,.2f}",
    }
    if "store a snapshot" in parts:
        each = parts["store a snapshot"]
        found[f"storing in {to} epochs, s"] = f"{each.seconds / each.calls * to:,.1f}"
    for name, part in parts.items():
        if name.startswith("train ") and name.endswith(", an epoch"):
            found[f"{name[:-10]} in {to} epochs, s"] = f"{part.seconds / part.calls * to:,.1f}"
    if _STEPS in parts and settings.steps is not None:
        features = report.facts["classes C"] * report.facts["n_B"]
        step = parts[_STEPS].seconds / min(settings.steps, -(-features // settings.batch_size))
        epoch = step * -(-features // settings.batch_size)
        found["a classifier's epoch on A^e, s"] = f"{epoch:,.1f}"
        found[f"a classifier on trails in {to} epochs, s"] = f"{epoch * to:,.1f}"
    found["not rehearsed"] = "the network: its forward, backward and input; see a rehearsal of images"
    return found
