"""Capturing by sample index, on one rank and on two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.buffer import SnapshotBuffer

LABELS = torch.tensor([2, 0, 1, 2, 2, 0, 1, 2])
# The samples of each class in the order of the data set.
ORDER = [1, 5, 2, 6, 0, 3, 4, 7]


def filled(dtype=torch.float32, dim=3, seed=0) -> torch.Tensor:
    return torch.randn(8, dim, generator=torch.Generator().manual_seed(seed)).to(dtype)


def captured(features: torch.Tensor, batches, buffer=None) -> SnapshotBuffer:
    buffer = buffer or SnapshotBuffer(LABELS, 3, features.shape[1], features.dtype, "cpu")
    for batch in batches:
        index = torch.tensor(batch)
        buffer.capture(index, features[index])
    return buffer


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    dtype=st.sampled_from([torch.half, torch.bfloat16, torch.float]),
    batch=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_a_snapshot_is_the_class_sorted_epoch(labels, dtype, batch, seed) -> None:
    labels = torch.tensor(labels + [0, 1, 2, 3])
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(labels), 4, generator=generator)
    buffer = SnapshotBuffer(labels, 4, 4, dtype, "cpu")
    for index in torch.randperm(len(labels), generator=generator).split(batch):
        buffer.capture(index, features[index])
    snapshot = buffer.finish(3)
    assert snapshot.epoch == 3
    slow = [i for j in range(4) for i in range(len(labels)) if labels[i] == j]
    for row, sample in enumerate(slow):
        assert torch.equal(snapshot.features[row], features[sample].to(dtype))
    assert snapshot.counts.tolist() == [labels.tolist().count(j) for j in range(4)]


def test_the_features_are_detached() -> None:
    buffer = SnapshotBuffer(LABELS, 3, 3, torch.float32, "cpu")
    features = filled().requires_grad_()
    buffer.capture(torch.arange(8), features * 2)
    snapshot = buffer.finish(1)
    assert not snapshot.features.requires_grad and snapshot.features.grad_fn is None
    assert torch.equal(snapshot.features, 2 * features.detach()[ORDER])


def test_a_repeated_sample_keeps_its_last_features() -> None:
    features = filled()
    buffer = captured(features, [range(8)])
    twice = torch.tensor([4, 1, 4, 4, 0])
    given_features = torch.arange(15.0).reshape(5, 3)
    buffer.capture(twice, given_features)
    buffer.capture(torch.tensor([0]), torch.full((1, 3), 9.5))
    expected = features.clone()
    expected[4], expected[1], expected[0] = given_features[3], given_features[1], 9.5
    assert torch.equal(buffer.finish(1).features, expected[ORDER])


def test_a_sample_not_seen_keeps_its_features_of_an_earlier_epoch() -> None:
    first, second = filled(seed=1), filled(seed=2)
    buffer = captured(first, [range(8)])
    buffer.finish(1)
    snapshot = captured(second, [[0, 2], [7]], buffer).finish(2)
    expected = first.clone()
    expected[[0, 2, 7]] = second[[0, 2, 7]]
    assert torch.equal(snapshot.features, expected[ORDER])


def test_a_sample_never_seen_is_an_error_that_counts_them() -> None:
    buffer = captured(filled(), [[0, 1], [4]])
    with pytest.raises(LTBenchError, match="epoch 1 needs .* all 8 .*5 were never captured"):
        buffer.finish(1)
    captured(filled(), [range(8)], buffer)
    buffer.finish(1)


def test_the_snapshot_shares_the_storage() -> None:
    """The memory bound of one epoch in flight: nothing is copied at the end of an epoch."""
    buffer = captured(filled(), [range(8)])
    assert buffer.finish(1).features.data_ptr() == buffer.features.data_ptr()


def test_wrong_shapes_and_labels_are_refused() -> None:
    buffer = SnapshotBuffer(LABELS, 3, 3, torch.float32, "cpu")
    with pytest.raises(LTBenchError, match=r"2 samples has \(2, 3\) features, got \(2, 5\)"):
        buffer.capture(torch.tensor([0, 1]), torch.zeros(2, 5))
    with pytest.raises(LTBenchError, match=r"labels lie in \[0, 2\), got 2"):
        SnapshotBuffer(LABELS, 2, 3, torch.float32, "cpu")


def test_a_capture_asks_nothing_of_the_device() -> None:
    """Fake tensors have no values: whatever would read one (item, nonzero, a mask) fails."""
    buffer = SnapshotBuffer(LABELS, 3, 3, torch.float16, "cpu")
    index, features = torch.tensor([3, 1]), torch.randn(2, 3)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for name in ("features", "_position", "_serial"):
            setattr(buffer, name, mode.from_tensor(getattr(buffer, name)))
        buffer.capture(mode.from_tensor(index), mode.from_tensor(features))
        with pytest.raises(DynamicOutputShapeException):
            (buffer._serial > 0).nonzero()
        with pytest.raises(DataDependentOutputException):
            buffer._serial.max().item()


# One rank of several: for every case, captures its share of two epochs and keeps both snapshots.
RANK = """
import sys
import torch
import torch.distributed as dist
from lt_bench.errors import LTBenchError
from lt_bench.snapshots.buffer import SnapshotBuffer

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
results = {}
for name, case in torch.load(f"{folder}/cases.pt", weights_only=True).items():
    results[name] = result = {}
    buffer = SnapshotBuffer(case["labels"], 3, 5, case["features1"].dtype, "cpu")
    for epoch in (1, 2):
        features, offset = case[f"features{epoch}"], case[f"offset{epoch}"]
        for index in case[f"rank{rank}epoch{epoch}"].split(4):
            buffer.capture(index, features[index] + offset[index] * rank)
        try:
            snapshot = buffer.finish(epoch)
        except LTBenchError as error:
            result["refused"] = str(error)
            break
        result[f"features{epoch}"] = snapshot.features.clone()
        result[f"mean{epoch}"], result[f"std{epoch}"] = snapshot.mean, snapshot.std
torch.save(results, f"{folder}/rank{rank}.pt")
dist.destroy_process_group()
"""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def shared_epochs(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Epoch 1 is shared out; in epoch 2 both ranks see some samples, and neither sees some.

    Where both see a sample, the second sees other features.
    """
    generator = torch.Generator().manual_seed(0)
    size = 31
    first = torch.randperm(size, generator=generator)
    second = torch.randperm(size, generator=generator)
    offset = torch.zeros(size, 1, dtype=dtype)
    offset[second[:3]] = 1
    labels = torch.randint(3, (size - 3,), generator=generator)
    return {
        "labels": torch.cat([torch.arange(3), labels]),
        "features1": torch.randn(size, 5, generator=generator).to(dtype),
        "features2": torch.randn(size, 5, generator=generator).to(dtype),
        "offset1": torch.zeros(size, 1, dtype=dtype),
        "offset2": offset,
        "rank0epoch1": first[0::2],
        "rank1epoch1": first[1::2],
        "rank0epoch2": second[0:12],
        "rank1epoch2": torch.cat([second[:3], second[12:24]]),
        "neither": second[24:],
    }


def incomplete_epoch() -> dict[str, torch.Tensor]:
    return {
        "labels": torch.tensor([0, 1, 2, 2, 1, 0]),
        "features1": torch.randn(6, 5),
        "offset1": torch.zeros(6, 1),
        "rank0epoch1": torch.tensor([0, 1]),
        "rank1epoch1": torch.tensor([3, 1]),
    }


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    """What each of two gloo processes made of every case."""
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("needs gloo")
    folder = tmp_path_factory.mktemp("ranks")
    cases = {name: shared_epochs(dtype) for name, dtype in DTYPES.items()}
    torch.save({**cases, "incomplete": incomplete_epoch()}, folder / "cases.pt")
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), "2", str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in ranks:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    finally:
        for process in ranks:
            process.kill()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", DTYPES)
def test_two_ranks_make_the_snapshot_of_one(name: str, two_ranks) -> None:
    case = shared_epochs(DTYPES[name])
    alone = SnapshotBuffer(case["labels"], 3, 5, DTYPES[name], "cpu")
    for epoch in (1, 2):
        # Rank 0 last, because the last capture of one process counts.
        for rank in (1, 0):
            index = case[f"rank{rank}epoch{epoch}"]
            offset = case[f"offset{epoch}"][index]
            alone.capture(index, case[f"features{epoch}"][index] + offset * rank)
        expected = alone.finish(epoch)
        for rank in two_ranks:
            assert torch.equal(rank[name][f"features{epoch}"], expected.features)
            assert torch.equal(rank[name][f"mean{epoch}"], expected.mean)
            assert torch.equal(rank[name][f"std{epoch}"], expected.std)
    rows = torch.argsort(torch.argsort(case["labels"], stable=True))[case["neither"]]
    assert torch.equal(two_ranks[1][name]["features2"][rows], case["features1"][case["neither"]])


def test_every_rank_refuses_a_sample_that_no_rank_saw(two_ranks) -> None:
    for rank in two_ranks:
        assert "all 6 training samples, 3 were never captured" in rank["incomplete"]["refused"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_capture_does_not_synchronise_a_gpu() -> None:
    buffer = SnapshotBuffer(LABELS, 3, 3, torch.float16, "cuda")
    index, features = torch.arange(8, device="cuda"), filled().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        buffer.capture(index, features)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(buffer.finish(1).features.cpu(), filled()[ORDER].half())
