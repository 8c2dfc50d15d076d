"""The ring against a history that forgets nothing."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.snapshots import trail as module
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan, fixed_length_plan
from lt_bench.snapshots.snapshot import Snapshot, make_snapshot
from lt_bench.snapshots.trail import Trail

DIM = 3


def random_snapshot(epoch: int, counts: torch.Tensor, dtype=torch.float32, seed=0) -> Snapshot:
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    features = torch.randn(int(counts.sum()), DIM, generator=generator) + epoch
    return make_snapshot(epoch, features.to(dtype), counts)


def random_plan(counts: list[int], length: int | None, n_b: int | None) -> BacktrackPlan:
    tensor = torch.tensor(counts)
    if length is None:
        return class_specific_plan(tensor, n_b)
    return fixed_length_plan(tensor, length, n_b)


PLANS = st.builds(
    random_plan,
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 15),
)


def assert_holds(trail: Trail, history: dict[int, Snapshot], newest: int) -> None:
    """Every class has its slots' newest epochs, row by row."""
    counts = trail.plan.counts.tolist()
    for j, (n_j, depth) in enumerate(zip(counts, trail.plan.depth.tolist(), strict=True)):
        first = sum(counts[:j])
        for epoch in range(max(1, newest - depth + 2), newest + 1):
            snapshot = history[epoch]
            own = torch.tensor([j])
            for i in range(n_j):
                row = trail.rows(own, torch.tensor([i]), epoch)
                assert torch.equal(trail.features[row[0]], snapshot.features[first + i])
            group = trail.groups(own, epoch)[0]
            assert torch.equal(trail.mean[group], snapshot.mean[j])
            assert torch.equal(trail.std[group], snapshot.std[j])
    for epoch in trail.epochs_held:
        row = epoch % trail.epoch_mean.shape[0]
        assert torch.equal(trail.epoch_mean[row], history[epoch].epoch_mean)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, extra=st.integers(0, 5), dtype=st.sampled_from([torch.half, torch.float]))
def test_the_ring_holds_what_a_full_history_holds(plan, extra, dtype) -> None:
    trail = Trail(plan, DIM, dtype, "cpu")
    history = {}
    for epoch in range(1, plan.max_depth + extra + 1):
        assert trail.ready(epoch) == (epoch >= plan.max_depth)
        history[epoch] = random_snapshot(epoch, plan.counts, dtype)
        trail.push(history[epoch])
        held = min(epoch, plan.max_depth - 1)
        assert list(trail.epochs_held) == list(range(epoch - held + 1, epoch + 1))
        assert_holds(trail, history, epoch)


@given(
    counts=st.lists(st.integers(1, 500), min_size=1, max_size=20),
    n_b=st.none() | st.integers(1, 600),
)
@settings(max_examples=60, deadline=None)
def test_class_specific_memory_is_bounded_by_n_b_features_a_class(counts, n_b) -> None:
    plan = class_specific_plan(torch.tensor(counts), n_b)
    trail = Trail(plan, 1, torch.float16, "cpu")
    assert trail.features.shape[0] == sum((-(-plan.n_b // n) - 1) * n for n in counts)
    assert trail.features.shape[0] <= len(counts) * plan.n_b


def test_ready_asks_for_the_epoch_after_the_newest() -> None:
    plan = fixed_length_plan(torch.tensor([2, 2]), 2)
    trail = Trail(plan, DIM, torch.float32, "cpu")
    assert not trail.ready(1)
    trail.push(random_snapshot(5, plan.counts))
    assert trail.ready(6)
    assert not trail.ready(5) and not trail.ready(7)


def test_a_push_copies(monkeypatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    plan = fixed_length_plan(torch.tensor([3, 2]), 2)
    trail = Trail(plan, DIM, torch.float32, "cpu")
    snapshot = random_snapshot(1, plan.counts)
    kept = make_snapshot(1, snapshot.features.clone(), plan.counts)
    trail.push(snapshot)
    snapshot.features.zero_()
    assert_holds(trail, {1: kept}, 1)


@pytest.mark.parametrize("cut", range(0, 9))
def test_saved_and_restored_mid_run_it_goes_on_as_if_nothing_happened(cut: int) -> None:
    plan = class_specific_plan(torch.tensor([8, 3, 1, 5]))
    whole = Trail(plan, DIM, torch.bfloat16, "cpu")
    before = Trail(plan, DIM, torch.bfloat16, "cpu")
    for epoch in range(1, cut + 1):
        before.push(random_snapshot(epoch, plan.counts, torch.bfloat16))
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = Trail(plan, DIM, torch.bfloat16, "cpu")
    after.load_state_dict(torch.load(file, weights_only=True))
    assert after.newest == before.newest and after.epochs_held == before.epochs_held
    history = {}
    for epoch in range(1, 10):
        history[epoch] = random_snapshot(epoch, plan.counts, torch.bfloat16)
        whole.push(history[epoch])
        if epoch > cut:
            assert after.ready(epoch) == (epoch >= plan.max_depth)
            after.push(history[epoch])
    assert_holds(after, history, 9)
    for name, tensor in whole.state_dict().items():
        other = after.state_dict()[name]
        assert torch.equal(tensor, other) if isinstance(tensor, torch.Tensor) else tensor == other


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_an_epoch_out_of_order_is_refused(epoch: int) -> None:
    plan = fixed_length_plan(torch.tensor([2, 1]), 3)
    trail = Trail(plan, DIM, torch.float32, "cpu")
    trail.push(random_snapshot(2, plan.counts))
    with pytest.raises(LTBenchError, match=f"of epoch 3, got {epoch};"):
        trail.push(random_snapshot(epoch, plan.counts))


def test_foreign_snapshots_are_refused() -> None:
    plan = fixed_length_plan(torch.tensor([2, 1]), 2)
    trail = Trail(plan, DIM, torch.float32, "cpu")
    with pytest.raises(LTBenchError, match="other class counts"):
        trail.push(random_snapshot(1, torch.tensor([1, 2])))
    with pytest.raises(LTBenchError, match="holds 3-d torch.float32.*has 3-d torch.float16"):
        trail.push(random_snapshot(1, plan.counts, torch.float16))
    with pytest.raises(LTBenchError, match="has 4-d"):
        trail.push(make_snapshot(1, torch.zeros(3, 4), plan.counts))
    assert trail.newest is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.pop("held"), "has no held"),
        (lambda state: state.pop("layout"), "has no layout"),
        (lambda state: state.update(layout=1), "no layout of this version; .* train stage 1 again"),
        (lambda state: state.update(features=torch.zeros(1, DIM)), "features is"),
        (lambda state: state.update(mean=state["mean"].double()), "mean is .* torch.float64"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(change, sentence: str) -> None:
    plan = fixed_length_plan(torch.tensor([2, 1]), 2)
    trail = Trail(plan, DIM, torch.float32, "cpu")
    history = {1: random_snapshot(1, plan.counts)}
    trail.push(history[1])
    state = {
        key: torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0
        for key, value in trail.state_dict().items()
    }
    state["layout"] = trail.state_dict()["layout"]
    change(state)
    with pytest.raises(LTBenchError, match=sentence):
        trail.load_state_dict(state)
    assert trail.newest == 1
    assert_holds(trail, history, 1)
