"""A^e against a slow construction that follows the paper class by class in float64.

Every feature carries its epoch and its place in the data set in its first two dimensions. Assembled
with the alignment ``none`` they tell which features were taken; every alignment must take the same
ones for the same seed, and map them as a loop over scalars does.
"""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.snapshots import assembly as module
from lt_bench.snapshots.assembly import assemble, class_balanced
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan, fixed_length_plan
from lt_bench.snapshots.selection import select_rows
from lt_bench.snapshots.snapshot import Snapshot, make_snapshot
from lt_bench.snapshots.trail import Trail

DIM = 6
ALIGNMENT_NAMES = ("mean", "variance", "class_agnostic", "none")
# Half a unit in the last place, relative.
ROUNDING = {
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0**-8,
    torch.float32: 2.0**-24,
    torch.float64: 2.0**-53,
}


def run(plan: BacktrackPlan, epochs: int, dtype: torch.dtype, seed: int = 0) -> tuple[list[Snapshot], Trail]:
    """All snapshots 1..epochs and the trail of those before the last."""
    generator = torch.Generator().manual_seed(seed)
    counts = plan.counts
    total = int(counts.sum())
    trail = Trail(plan, DIM, dtype, "cpu")
    snapshots = []
    for epoch in range(1, epochs + 1):
        spread = 0.2 + torch.rand(DIM, generator=generator)
        features = torch.randn(total, DIM, generator=generator) * spread + 3 * torch.randn(
            DIM, generator=generator
        )
        features[:, 0] = epoch
        features[:, 1] = torch.arange(total)
        # A dimension without spread in even epochs: deviation 0 before, after, or both.
        if epoch % 2 == 0:
            features[:, 2] = 0.1 * epoch
        snapshots.append(make_snapshot(epoch, features.to(dtype), counts))
        if epoch < epochs:
            trail.push(snapshots[-1])
    return snapshots, trail


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decode(features: torch.Tensor) -> list[tuple[int, int]]:
    """(epoch, sample) of features that were not aligned."""
    return [(int(epoch), int(sample)) for epoch, sample in features[:, :2].tolist()]


def slow_moments(snapshot: Snapshot, first: int, last: int, k: int) -> tuple[float, float]:
    values = [float(v) for v in snapshot.features[first:last, k].double()]
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def slow_map(
    name: str, snapshots: list[Snapshot], epoch: int, sample: int, label: int
) -> tuple[list[float], list[tuple[float, float]]]:
    """One feature of ``epoch`` aligned to the last snapshot, with two sizes for every dimension.

    The first is of what is rounded to the trail's dtype: the result, and a shift that stands alone. The
    second is of the terms of the moments.
    """
    now = snapshots[-1]
    old = snapshots[epoch - 1]
    counts = now.counts.tolist()
    first = sum(counts[:label])
    last = first + counts[label]
    total = sum(counts)
    mapped, size = [], []
    for k in range(DIM):
        z = float(old.features[sample, k].double())
        m0, s0 = slow_moments(old, first, last, k)
        m1, s1 = slow_moments(now, first, last, k)
        g0, g1 = slow_moments(old, 0, total, k)[0], slow_moments(now, 0, total, k)[0]
        scale, shift = 1.0, 0.0
        if epoch < now.epoch:
            if name == "mean":
                shift = m1 - m0
            elif name == "class_agnostic":
                shift = g1 - g0
            elif name == "variance":
                if last - first > 1 and s0 > 1e-12:
                    scale = s1 / s0
                shift = m1 - scale * m0
        mapped.append(scale * z + shift)
        rounded = abs(scale * z + shift)
        rounded += abs(shift) if name != "variance" else 0.0
        size.append((rounded, abs(scale * z) + abs(m0) + abs(m1) + abs(g0) + abs(g1) + abs(scale * m0)))
    return mapped, size


def random_plan(counts: list[int], length: int | None, n_b: int | None) -> BacktrackPlan:
    tensor = torch.tensor(counts)
    if length is None:
        return class_specific_plan(tensor, n_b)
    return fixed_length_plan(tensor, length, n_b)


PLANS = st.builds(
    random_plan,
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 20),
)
# One sample, one class only, n_j > n_B, n_j = n_B, a multiple of n_j.
EDGES = [
    class_specific_plan(torch.tensor([1])),
    class_specific_plan(torch.tensor([1, 9])),
    class_specific_plan(torch.tensor([7]), 3),
    class_specific_plan(torch.tensor([5, 5]), 5),
    class_specific_plan(torch.tensor([3, 4]), 12),
    class_specific_plan(torch.tensor([9, 1, 1, 1])),
    fixed_length_plan(torch.tensor([2, 7]), 1, 5),
    fixed_length_plan(torch.tensor([2, 7]), 3, 6),
    fixed_length_plan(torch.tensor([1, 1, 30]), 2),
]


def assert_right_features(plan: BacktrackPlan, taken: list, labels: list[int], newest: int) -> None:
    """(14), or the fixed length's pool, one class at a time."""
    counts = plan.counts.tolist()
    assert Counter(labels) == {j: plan.n_b for j in range(len(counts))}
    for j, n_j in enumerate(counts):
        samples = range(sum(counts[:j]), sum(counts[:j]) + n_j)
        own = Counter(who for who, label in zip(taken, labels, strict=True) if label == j)
        if plan.kind == "class_specific":
            k_j = math.ceil(plan.n_b / n_j)
            for lag in range(k_j - 1):
                for sample in samples:
                    assert own.pop((newest - lag, sample)) == 1
            pool = [(newest - (k_j - 1), sample) for sample in samples]
            floor, remainder = 0, plan.n_b - (k_j - 1) * n_j
        else:
            depth = int(plan.depth[j])
            pool = [(newest - lag, sample) for lag in range(depth) for sample in samples]
            floor, remainder = divmod(plan.n_b, len(pool))
        times = [own.pop(who, 0) for who in pool]
        assert not own, "features from elsewhere"
        # Without replacement: nobody is taken twice more than another.
        assert set(times) <= {floor, floor + 1}
        assert sum(times) == floor * len(pool) + remainder


def check(plan: BacktrackPlan, extra: int, dtype: torch.dtype, surplus: str, seed: int) -> None:
    epochs = plan.max_depth + extra
    snapshots, trail = run(plan, epochs, dtype, seed)
    now = snapshots[-1]

    def made(alignment: str) -> tuple[torch.Tensor, torch.Tensor]:
        return assemble(now, trail, alignment=alignment, generator=seeded(seed), surplus=surplus)

    plain, labels = made("none")
    taken = decode(plain)
    assert_right_features(plan, taken, labels.tolist(), epochs)
    for name in ALIGNMENT_NAMES:
        features, same = made(name)
        assert features.dtype == dtype and features.shape == (labels.numel(), DIM)
        assert torch.equal(same, labels)
        for row, (epoch, sample), label in zip(
            features.double().tolist(), taken, labels.tolist(), strict=True
        ):
            expected, size = slow_map(name, snapshots, epoch, sample, label)
            for k in range(DIM):
                # Roundings to the trail's dtype, and of the moments' arithmetic in float32.
                wide = 2.0**-53 if dtype == torch.float64 else 2.0**-24
                rounded, terms = size[k]
                allowed = 1.01 * ROUNDING[dtype] * rounded + 40 * wide * terms + 1e-7
                assert abs(row[k] - expected[k]) <= allowed, (name, epoch, sample, k)


@settings(max_examples=80, deadline=None)
@given(
    plan=PLANS,
    extra=st.integers(0, 3),
    dtype=st.sampled_from(list(ROUNDING)),
    surplus=st.sampled_from(["random", "first"]),
    seed=st.integers(0, 2**20),
)
def test_assembly_equals_the_slow_construction(plan, extra, dtype, surplus, seed) -> None:
    check(plan, extra, dtype, surplus, seed)


@pytest.mark.parametrize("surplus", ["random", "first"])
@pytest.mark.parametrize("plan", EDGES, ids=lambda plan: f"{plan.kind}-{plan.counts.tolist()}")
def test_assembly_at_the_edges(plan, surplus) -> None:
    for dtype in ROUNDING:
        check(plan, 1, dtype, surplus, seed=5)


@pytest.mark.parametrize("budget", [1, 5 * DIM * 4, 10**6])
def test_the_chunk_does_not_matter(budget, monkeypatch) -> None:
    plan = class_specific_plan(torch.tensor([13, 1, 4, 6]))
    snapshots, trail = run(plan, plan.max_depth, torch.float16)
    for name in ALIGNMENT_NAMES:
        expected = assemble(snapshots[-1], trail, alignment=name, generator=seeded())[0]
        with monkeypatch.context() as patch:
            patch.setattr(module, "_CHUNK_BYTES", {"cpu": budget})
            got = assemble(snapshots[-1], trail, alignment=name, generator=seeded())[0]
        assert torch.equal(expected, got)


def test_first_takes_the_first_rows_of_the_oldest_snapshot() -> None:
    plan = class_specific_plan(torch.tensor([6, 4]), 10)
    snapshots, trail = run(plan, 3, torch.float32)
    features, labels = assemble(snapshots[-1], trail, alignment="none", generator=None, surplus="first")
    taken = sorted(decode(features[labels == 0]))
    assert taken == [(2, 0), (2, 1), (2, 2), (2, 3)] + [(3, i) for i in range(6)]
    taken = sorted(decode(features[labels == 1]))
    assert taken == [(1, 6), (1, 7)] + [(e, i) for e in (2, 3) for i in range(6, 10)]


def test_current_rows_come_first_and_are_not_touched() -> None:
    plan = class_specific_plan(torch.tensor([9, 2, 1]))
    snapshots, trail = run(plan, 5, torch.float32)
    features, labels = assemble(snapshots[-1], trail, alignment="mean", generator=seeded())
    current = 4 + 2 + 1
    rows = features[:current, 1].long()
    assert torch.equal(features[:current], snapshots[-1].features[rows])
    assert sorted(labels[:current].tolist()) == [0] * 4 + [1] * 2 + [2]


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_aligned_classes_have_the_current_class_mean(name) -> None:
    """What alignment is for. Two snapshots, every feature of a class taken equally often."""
    plan = fixed_length_plan(torch.tensor([2, 3, 6]), 2, 24)
    snapshots, trail = run(plan, 4, torch.float64)
    features, labels = assemble(snapshots[-1], trail, alignment=name, generator=None)
    for j in range(3):
        torch.testing.assert_close(features[labels == j].mean(0), snapshots[-1].mean[j])


def test_the_draw_is_a_function_of_the_seed() -> None:
    plan = class_specific_plan(torch.tensor([40, 17, 9]), 25)
    snapshots, trail = run(plan, 4, torch.float32)

    def drawn(seed: int) -> torch.Tensor:
        return assemble(snapshots[-1], trail, alignment="mean", generator=seeded(seed))[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_every_feature_is_as_likely_to_be_drawn() -> None:
    """4 of 10: 400 expected in 1,000 draws; the bound is six standard deviations."""
    plan = class_specific_plan(torch.tensor([10]), 4)
    generator = seeded()
    times = torch.zeros(10)
    pairs = torch.zeros(10, 10)
    for _ in range(1000):
        places = select_rows(plan, generator, "random", "cpu")[0].places
        times[places] += 1
        pairs[places[:, None], places[None, :]] += 1
    assert times.sum() == 4000
    assert (times - 400).abs().max() < 6 * math.sqrt(1000 * 0.4 * 0.6)
    # Pairs as well: 4*3 / (10*9) of the draws.
    chance = 12 / 90
    others = pairs[~torch.eye(10, dtype=torch.bool)]
    assert (others - 1000 * chance).abs().max() < 6 * math.sqrt(1000 * chance * (1 - chance))


def test_draws_of_classes_are_independent_of_their_order_in_memory() -> None:
    """Two classes of one size do not get the same places."""
    plan = class_specific_plan(torch.tensor([500, 500]), 100)
    now, _ = select_rows(plan, seeded(), "random", "cpu")
    classes, places = now.classes, now.places
    assert set(places[classes == 0].tolist()) != set(places[classes == 1].tolist())


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    n_b=st.integers(1, 30),
    dtype=st.sampled_from(list(ROUNDING)),
    seed=st.integers(0, 2**20),
)
def test_class_balanced_equals_the_slow_construction(counts, n_b, dtype, seed) -> None:
    snapshot = run(class_specific_plan(torch.tensor(counts), 1), 1, dtype, seed)[0][0]
    features, labels = class_balanced(snapshot, n_b, seeded(seed))
    assert features.dtype == dtype
    assert labels.bincount().tolist() == [n_b] * len(counts)
    rows = features[:, 1].long()
    assert torch.equal(features, snapshot.features[rows])
    for j, n_j in enumerate(counts):
        own = Counter(rows[labels == j].tolist())
        samples = range(sum(counts[:j]), sum(counts[:j]) + n_j)
        times = [own.pop(sample, 0) for sample in samples]
        assert not own
        assert set(times) <= {n_b // n_j, n_b // n_j + 1} and sum(times) == n_b


def test_a_class_that_hardly_spread_is_scaled_without_overflow() -> None:
    """One of 64 features is a last place away, and in the next epoch they spread by 100."""
    counts = torch.tensor([64, 320])
    plan = class_specific_plan(counts)
    trail = Trail(plan, DIM, torch.float16, "cpu")
    tight = torch.ones(384, DIM)
    tight[0] += 2.0**-10
    snapshots = [make_snapshot(e, tight.half(), counts) for e in range(1, plan.max_depth)]
    for snapshot in snapshots:
        trail.push(snapshot)
    wide = make_snapshot(plan.max_depth, (100 * torch.randn(384, DIM, generator=seeded())).half(), counts)
    features, labels = assemble(wide, trail, alignment="variance", generator=seeded())
    earlier = features[labels == 0][64:].double()
    scale = float(wide.std[0, 0]) / float(snapshots[0].std[0, 0])
    assert scale > torch.finfo(torch.float16).max
    expected = float(wide.mean[0, 0]) + scale * (
        torch.tensor([1.0, 1 + 2.0**-10]).double() - float(snapshots[0].mean[0, 0])
    )
    distance = (earlier[:, :1] - expected).abs().min(dim=1).values
    assert (distance <= 2e-3 * expected.abs().max()).all()


def test_an_alignment_of_ones_own_may_broadcast() -> None:
    plan = class_specific_plan(torch.tensor([4, 2]), 8)
    snapshots, trail = run(plan, 4, torch.float32)

    def double_and_one(old, new):
        return torch.full((1, 1), 2.0), torch.ones(DIM)

    got, labels = assemble(snapshots[-1], trail, alignment=double_and_one, generator=None, surplus="first")
    plain, _ = assemble(snapshots[-1], trail, alignment="none", generator=None, surplus="first")
    earlier = plain[:, 0] < 4
    assert earlier.any() and not earlier.all()
    torch.testing.assert_close(got, torch.where(earlier[:, None], 2 * plain + 1, plain))


def test_a_scale_without_a_shift() -> None:
    plan = class_specific_plan(torch.tensor([2]), 4)
    snapshots, trail = run(plan, 2, torch.float32)

    def negate(old, new):
        return -torch.ones_like(old.mean), None

    got, _ = assemble(snapshots[-1], trail, alignment=negate, generator=None, surplus="first")
    assert torch.equal(got[2:], -snapshots[0].features)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"alignment": "men"}, "unknown alignment 'men': did you mean 'mean'"),
        ({"surplus": "last"}, "surplus is 'random' or 'first', got 'last'"),
        ({"generator": None}, "needs a generator, got None"),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence) -> None:
    plan = class_specific_plan(torch.tensor([9, 2, 1]))
    snapshots, trail = run(plan, 5, torch.float32)
    with pytest.raises(LTBenchError, match=sentence):
        assemble(
            snapshots[-1],
            trail,
            **{"alignment": "mean", "generator": seeded(), **arguments},
        )


def test_a_trail_that_does_not_reach_back_is_refused() -> None:
    plan = class_specific_plan(torch.tensor([9, 2, 1]))
    snapshots, trail = run(plan, 3, torch.float32)
    with pytest.raises(LTBenchError, match="needs snapshots of epochs 0 to 2, the trail has epoch"):
        assemble(snapshots[-1], trail, alignment="mean", generator=seeded())
    empty = Trail(plan, DIM, torch.float32, "cpu")
    with pytest.raises(LTBenchError, match="the trail has none; use class_balanced"):
        assemble(snapshots[-1], empty, alignment="mean", generator=seeded())
    snapshots, trail = run(plan, 6, torch.float32)
    with pytest.raises(LTBenchError, match="of epoch 5 needs"):
        assemble(snapshots[4], trail, alignment="mean", generator=seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_gives_the_same_features_on_every_device() -> None:
    plan = class_specific_plan(torch.tensor([9, 2, 1]))
    snapshots, trail = run(plan, 5, torch.float16)
    expected, labels = assemble(snapshots[-1], trail, alignment="mean", generator=seeded())
    on_device = Trail(plan, DIM, torch.float16, "cuda")
    moved = [make_snapshot(s.epoch, s.features.cuda(), s.counts) for s in snapshots]
    for snapshot in moved[:-1]:
        on_device.push(snapshot)
    got, same = assemble(moved[-1], on_device, alignment="mean", generator=seeded())
    assert torch.equal(same.cpu(), labels)
    torch.testing.assert_close(got.cpu(), expected)
