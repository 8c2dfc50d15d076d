"""What Breadcrumb costs beside a plain training, and the whole of Table 1 against one.

CIFAR-100-LT's configs on images of its shape (ResNet-32, batch 128, imbalance factor 100), all run by the
harness, every snapshot stored as the configs ask for.

``test_strong_breadcrumb_alongside``  Strong Breadcrumb (aligned by means) is trained alongside in every other
    epoch of one stage 1; only epochs behind those in which the trails fill up count. ``ratio`` is the time of
    an epoch with it over the same epoch without what it took, of the medians; the goal is at most 1.02.
    ``ratio_alternating`` is the median of the epochs with it over that of the epochs without, which also has
    what it does to its surroundings, and all the noise of a machine whose cores others use.
``test_table_1_against_one_training``  One call runs plain and the rows of Table 1: cRT, + back-tracking,
    + class-specific, weak, strong, and strong by mean and variance and class-agnostically; the eighth row,
    Breadcrumb, is strong. ``ratio``, whose goal is at most 1.15, is

        (200 (p + f) + sum of the rows' stage 2 + features) / (200 p)

    with p, the seconds of a plain epoch (median; snapshots captured, pushed and stored, nothing following),
    and f, what the three strong classifiers took of an epoch (median). *Extrapolated* is the 200, from the
    epochs behind those in which the trails fill up. A row's stage 2 is measured as it is: ten epochs of its
    classifier (cRT's through the backbone), choosing and scoring. The features of validation and test are
    made once for all. The denominator has no evaluation, which makes the ratio a little larger.

Images are 1/16 by default, of every split alike, so an epoch has 6 steps; all of them with LT_BENCH_FULL=1.
Classes keep one image at least. What an epoch costs however few its steps are is then in p 16 times over.
No time is asserted.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.device import get_device
from rich.console import Console

from lt_bench.engine.loop import StageOneLoop
from lt_bench.evaluation.record import RunRecord
from lt_bench.run import Settings, run
from lt_bench.snapshots.recorder import SnapshotRecorder
from tests.cifar_shape import cifar_experiment, cifar_shape

THREADS = torch.get_num_threads()  # as the machine has them, not the one of other tests
DEVICE = get_device()
SHARE = 1 if os.environ.get("LT_BENCH_FULL") == "1" else 16
EPOCHS = 200
# Epochs that count, behind those in which the trails fill up.
COUNTED = 8
STRONG = ("breadcrumb_strong", "breadcrumb_var", "breadcrumb_agn")
ROWS = ("crt", "back_tracking", "class_specific", "breadcrumb_weak", *STRONG)


class Watch:
    """Seconds of every epoch, and of them those that followers took."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.epochs: list[float] = []
        self.followers: list[float] = []
        run_epoch, end_epoch = StageOneLoop.run_epoch, SnapshotRecorder.end_epoch

        def timed_epoch(loop: StageOneLoop) -> None:
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run_epoch(loop)
            self.epochs.append(time.perf_counter() - start)

        def timed_end(recorder: SnapshotRecorder, *args: Any, **kwargs: Any) -> None:
            before = sum(recorder.seconds.values())
            end_epoch(recorder, *args, **kwargs)
            self.followers.append(sum(recorder.seconds.values()) - before)

        monkeypatch.setattr(StageOneLoop, "run_epoch", timed_epoch)
        monkeypatch.setattr(SnapshotRecorder, "end_epoch", timed_end)


def trained(folder: Path, stems: tuple[str, ...], epochs: int) -> list[RunRecord]:
    """Records of CIFAR-100-LT's configs on the images in ``folder``."""
    dataset = {"type": "array_lt", "path": str(folder / "images.npz")}
    experiments = [cifar_experiment(f"{stem}_r32", dataset, stage1__epochs=epochs) for stem in stems]
    outcome = run(experiments, [0], Settings(folder / "work", folder / "records"), Console(quiet=True))
    return [record for _, record in outcome]


def depth(folder: Path) -> int:
    """Snapshots of the longest trail."""
    from lt_bench.engine.data import build_data
    from lt_bench.snapshots.plan import class_specific_plan

    data = build_data({"type": "array_lt", "path": str(folder / "images.npz")})
    return class_specific_plan(data.counts).max_depth


@pytest.mark.benchmark_suite
def test_strong_breadcrumb_alongside(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(THREADS)
    cifar_shape(tmp_path, SHARE)
    watch = Watch(monkeypatch)
    end_epoch = SnapshotRecorder.end_epoch

    def every_other(recorder: SnapshotRecorder, snapshot: Any, **kwargs: Any) -> None:
        resting = recorder.followers if snapshot.epoch % 2 else {}
        recorder.followers = {} if resting else recorder.followers
        end_epoch(recorder, snapshot, **kwargs)
        recorder.followers = resting or recorder.followers

    monkeypatch.setattr(SnapshotRecorder, "end_epoch", every_other)
    filled = depth(tmp_path)
    benchmark.pedantic(trained, args=(tmp_path, ("breadcrumb_strong",), filled + 2 * COUNTED), rounds=1)
    pairs = list(zip(watch.epochs, watch.followers, strict=True))[filled:]
    with_it = [(whole, follower) for whole, follower in pairs if follower]
    without = [whole for whole, follower in pairs if not follower]
    assert len(with_it) == len(without) == COUNTED
    own = [whole / (whole - follower) for whole, follower in with_it]
    median = statistics.median
    benchmark.extra_info.update(
        ratio=median(whole for whole, _ in with_it) / median(whole - follower for whole, follower in with_it),
        ratio_from=min(own),
        ratio_to=max(own),
        ratio_alternating=median(whole for whole, _ in with_it) / median(without),
        goal=1.02,
        follower_seconds_an_epoch=median(follower for _, follower in with_it),
        epoch_seconds=median(without),
        share_of_images=1 / SHARE,
        depth=filled,
        device=DEVICE,
        threads=torch.get_num_threads(),
    )


@pytest.mark.benchmark_suite
def test_table_1_against_one_training(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(THREADS)
    cifar_shape(tmp_path, SHARE)
    watch = Watch(monkeypatch)
    filled = depth(tmp_path)
    _, *records = benchmark.pedantic(trained, args=(tmp_path, ("plain", *ROWS), filled + COUNTED), rounds=1)
    followers = watch.followers[filled:]
    plain = [whole - follower for whole, follower in zip(watch.epochs[filled:], followers, strict=True)]
    assert len(plain) == COUNTED and min(followers) > 0
    stage2 = {record.name.rpartition("/")[2]: record.stage_parts["stage2"] for record in records}
    # Made once and counted in every record.
    features = min(parts["features"] for parts in stage2.values())
    alone = {name: sum(parts.values()) - parts["following"] - features for name, parts in stage2.items()}
    p, f = statistics.median(plain), statistics.median(followers)
    whole = EPOCHS * (p + f) + sum(alone.values()) + features
    benchmark.extra_info.update(
        ratio=whole / (EPOCHS * p),
        ratio_from=1 + (EPOCHS * min(followers) + sum(alone.values()) + features) / (EPOCHS * max(plain)),
        ratio_to=1 + (EPOCHS * max(followers) + sum(alone.values()) + features) / (EPOCHS * min(plain)),
        goal=1.15,
        followers_share=f / p,
        crt_share=alone["crt_r32"] / (EPOCHS * p),
        other_rows_share=(sum(alone.values()) - alone["crt_r32"]) / (EPOCHS * p),
        features_share=features / (EPOCHS * p),
        plain_epoch_seconds=p,
        share_of_images=1 / SHARE,
        device=DEVICE,
        threads=torch.get_num_threads(),
    )
