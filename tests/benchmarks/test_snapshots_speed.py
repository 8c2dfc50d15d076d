"""What snapshots cost: assembling A^e against a plain copy, capturing against a training step.

``test_assembly_against_a_copy``   A^e at the size of iNaturalist 2018: 8,142 classes, 437,513 images,
    842 / 4,076 / 3,224 of them many / medium / few, 2048-d float16. ``ratio`` is the assembly's time
    over that of ``source.clone()`` of the same bytes, the two run in turn; the goal is at most 3. Both write
    to memory that is new, as an epoch's is; how fast that is depends on where it lies, so the median of the
    rounds' ratios is taken. Assembly includes drawing the surplus.
``test_capture_against_training``  An epoch of ImageNet-LT's shape: 115,846 images, batches of 512, 512-d
    float32. ``ratio`` is the time of all captures over that of all training steps (ResNet-10, 224 px, SGD);
    the goal is at most 0.01. The step is measured with ``step_images`` images and multiplied up to 512, which
    favours neither side much: a convolution's time grows with the batch. ``ratio_with_finish`` adds the
    class moments at the end of the epoch.

A CPU shares its cores with whatever else runs; ratios of one run are worth more than its seconds.
Sizes are a twentieth by default, and the published ones with LT_BENCH_FULL=1 (8 GB of memory). No time
is asserted.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lt_bench.data.profile import inaturalist_profile
from lt_bench.snapshots.assembly import assemble
from lt_bench.snapshots.buffer import SnapshotBuffer
from lt_bench.snapshots.plan import class_specific_plan
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail

FULL = os.environ.get("LT_BENCH_FULL") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
THREADS = torch.get_num_threads()  # as the machine has them, not the one of other tests


def seconds(work: Callable[[], object]) -> float:
    """One run, to the end of what it started on the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def some_features(rows: int, dim: int, dtype: torch.dtype) -> Tensor:
    """Ordinary numbers; drawn once and repeated, for what they are does not change the time."""
    block = torch.randn(min(rows, 4096), dim).relu().to(dtype)
    return block.repeat(-(-rows // len(block)), 1)[:rows].to(DEVICE)


def filled_trail(counts: Tensor, dim: int, dtype: torch.dtype) -> tuple[Snapshot, Trail]:
    """A trail as if every epoch had been pushed, made without the memory of their snapshots."""
    plan = class_specific_plan(counts)
    trail = Trail(plan, dim, dtype, DEVICE)
    for tensor in (trail.features, trail.mean, trail.std, trail.epoch_mean):
        for first in range(0, len(tensor), 4096):
            part = tensor[first : first + 4096]
            part.copy_(some_features(len(part), dim, dtype))
    trail.newest = plan.max_depth - 1
    trail.held = plan.max_depth - 1
    features = some_features(int(counts.sum()), dim, dtype)
    mean, std = torch.rand(2, len(counts), dim, device=DEVICE)
    return Snapshot(plan.max_depth, features, counts, mean, std), trail


@pytest.mark.benchmark_suite
@pytest.mark.parametrize("alignment", ["mean", "variance", "class_agnostic", "none"])
def test_assembly_against_a_copy(benchmark, alignment: str) -> None:
    torch.set_num_threads(THREADS)
    counts = torch.tensor(inaturalist_profile())
    counts = counts if FULL else counts[::20]
    dim = 2048
    snapshot, trail = filled_trail(counts, dim, torch.float16)
    n_b = trail.plan.n_b
    generator = torch.Generator(DEVICE).manual_seed(0)
    memory: dict[str, Tensor] = {}
    copies: list[float] = []
    assemblies: list[float] = []

    def made() -> None:
        memory["out"], _ = assemble(snapshot, trail, alignment=alignment, generator=generator)

    def copied() -> None:
        memory["out"] = memory["source"].clone()

    def copy_in_turn() -> None:
        memory.clear()
        memory["source"] = some_features(len(counts) * n_b, dim, torch.float16)
        copies.append(seconds(copied))
        memory.clear()

    benchmark.pedantic(
        lambda: assemblies.append(seconds(made)), setup=copy_in_turn, rounds=9, warmup_rounds=1
    )
    assert len(assemblies) == len(copies)
    ratios = sorted(a / c for a, c in zip(assemblies[1:], copies[1:], strict=True))
    copy, assembly = statistics.median(copies[1:]), statistics.median(assemblies[1:])
    benchmark.extra_info.update(
        ratio=statistics.median(ratios),
        ratio_from=ratios[0],
        ratio_to=ratios[-1],
        goal=3.0,
        copy_seconds=copy,
        assembly_seconds=assembly,
        gigabytes=len(counts) * n_b * dim * 2 / 1e9,
        aligned_share=1 - float((counts.clamp(max=n_b)).sum()) / (len(counts) * n_b),
        classes=len(counts),
        samples=int(counts.sum()),
        n_b=n_b,
        depth=trail.plan.max_depth,
        device=DEVICE,
        threads=torch.get_num_threads(),
    )


def training_step_seconds(images: int, steps: int) -> float:
    """A step of ResNet-10 with a linear classifier of 1,000 classes at 224 px: the fastest of ``steps``."""
    from lt_bench.models.resnet10 import ResNet10  # imports mmpretrain, which takes seconds

    model = nn.ModuleDict({"backbone": ResNet10(), "head": nn.Linear(512, 1000)}).to(DEVICE)
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    batch = torch.randn(images, 3, 224, 224, device=DEVICE)
    labels = torch.arange(images, device=DEVICE)

    def step() -> None:
        pooled = model["backbone"](batch)[-1].mean(dim=(2, 3))
        loss = nn.functional.cross_entropy(model["head"](pooled), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    step()
    return min(seconds(step) for _ in range(steps))


@pytest.mark.benchmark_suite
def test_capture_against_training(benchmark) -> None:
    torch.set_num_threads(THREADS)
    samples, batch_size, dim, classes = 115_846, 512, 512, 1000
    if not FULL:
        samples //= 20
    step_images = batch_size if DEVICE == "cuda" else (64 if FULL else 8)
    step = training_step_seconds(step_images, steps=3) * batch_size / step_images

    labels = torch.arange(samples) % classes
    buffer = SnapshotBuffer(labels, classes, dim, torch.float32, DEVICE)
    batches = list(torch.randperm(samples, device=DEVICE).split(batch_size))
    features = some_features(batch_size, dim, torch.float32).requires_grad_()

    def capture_epoch() -> None:
        for indices in batches:
            buffer.capture(indices, features[: len(indices)])

    captures: list[float] = []
    finishes: list[float] = []

    def finish() -> None:
        if captures:
            finishes.append(seconds(lambda: buffer.finish(len(captures))))

    benchmark.pedantic(
        lambda: captures.append(seconds(capture_epoch)), setup=finish, rounds=5, warmup_rounds=1
    )
    finish()
    capture, end = statistics.median(captures[1:]), statistics.median(finishes[1:])
    training = step * len(batches)
    benchmark.extra_info.update(
        ratio=capture / training,
        ratio_with_finish=(capture + end) / training,
        goal=0.01,
        capture_seconds_an_epoch=capture,
        finish_seconds_an_epoch=end,
        training_seconds_an_epoch=training,
        steps_an_epoch=len(batches),
        step_images=step_images,
        samples=samples,
        device=DEVICE,
        threads=torch.get_num_threads(),
    )
