"""Breadcrumb's classifier: alongside equals replay, and an epoch of it against slow loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lt_bench.engine.stage1 import StageOne
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.errors import LTBenchError
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed, generator
from lt_bench.snapshots import Trail, assemble, class_balanced, class_specific_plan, make_snapshot
from lt_bench.snapshots.assembly import Surplus
from lt_bench.task import Task

COUNTS = torch.tensor([7, 3, 2, 1])


def task() -> Task:
    names = tuple("abcd")
    return Task("toy", names, COUNTS, "strict", torch.tensor([2, 2, 2, 2], dtype=torch.int8))


def method(**options):
    return METHODS.build({"type": "breadcrumb", "task": task(), **options})


def snapshots(epochs: int, dim: int = 5) -> list:
    draw = torch.Generator().manual_seed(3)
    total = int(COUNTS.sum())
    return [
        make_snapshot(e, torch.randn(total, dim, generator=draw) + e, COUNTS) for e in range(1, epochs + 1)
    ]


def follow(classifier, epochs: int, upto: int | None = None, follower=None):
    shown = snapshots(epochs)
    follower = follower or classifier.follower(
        feature_dim=5, epochs=epochs, seed=11, device=torch.device("cpu")
    )
    trail = Trail(classifier.plan(), 5, torch.float32, "cpu")
    for snapshot in shown:
        if classifier.follows() or snapshot.epoch == epochs:
            follower.observe(snapshot, trail)
        trail.push(snapshot)
        if snapshot.epoch == upto:
            break
    return follower


@pytest.mark.parametrize("alignment", ["mean", "variance", "class_agnostic", "none"])
def test_alongside_equals_replay(short: Callable, launch: Callable, alignment: str) -> None:
    strong = short("breadcrumb_strong", **{"method.classifier.alignment": alignment})
    alongside = launch(strong, folder="alongside")[0][1]
    launch(short("plain"), folder="replay")
    replayed = launch(strong, folder="replay")[0][1]
    assert replayed.scores == alongside.scores
    assert replayed.method["notes"] == alongside.method["notes"]
    assert alongside.method["notes"]["epochs_on_trails"] >= 2


def test_the_two_forms_give_the_same_bits(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lt_bench.run import finishing

    heads: list[dict[str, torch.Tensor]] = []
    original = finishing.fit

    def fit(classifier, config, stage):
        fitted = original(classifier, config, stage)
        heads.append({k: v.clone() for k, v in fitted.head.state_dict().items()})
        return fitted

    monkeypatch.setattr(finishing, "fit", fit)
    launch(short("breadcrumb_strong"), folder="alongside")
    launch(short("plain"), folder="replay")
    launch(short("breadcrumb_strong"), folder="replay")
    alongside, _, replayed = heads
    assert all(torch.equal(alongside[key], replayed[key]) for key in alongside)


def test_final_trail_of_checkpoint_equals_that_of_shards(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lt_bench.run import finishing

    opened: list[FrozenRepresentation] = []

    class Noting(FrozenRepresentation):
        def __init__(self, stage: StageOne) -> None:
            super().__init__(stage)
            opened.append(self)

    monkeypatch.setattr(finishing, "FrozenRepresentation", Noting)
    launch(short("plain"))
    (stage,) = opened
    plan = class_specific_plan(stage.task.counts)
    last, saved = stage.final_trail(plan)
    stage._snapshots["trails"].clear()
    again, rebuilt = stage.final_trail(plan)
    assert torch.equal(last.features, again.features)
    for alignment in ("mean", "variance", "class_agnostic", "none"):
        one = assemble(last, saved, alignment=alignment, generator=generator("cpu", 1))
        two = assemble(again, rebuilt, alignment=alignment, generator=generator("cpu", 1))
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def slow_epoch(weight, bias, velocity, features, labels, batch, rate, momentum, decay):
    """One epoch of SGD on softmax regression in float64, sample by sample."""
    classes, dim = len(weight), len(weight[0])
    for start in range(0, len(labels), batch):
        rows = range(start, min(start + batch, len(labels)))
        grad_w = [[0.0] * dim for _ in range(classes)]
        grad_b = [0.0] * classes
        for i in rows:
            logits = [
                sum(weight[c][k] * features[i][k] for k in range(dim)) + bias[c] for c in range(classes)
            ]
            top = max(logits)
            total = sum(math.exp(z - top) for z in logits)
            for c in range(classes):
                error = math.exp(logits[c] - top) / total - (c == labels[i])
                grad_b[c] += error / len(rows)
                for k in range(dim):
                    grad_w[c][k] += error * features[i][k] / len(rows)
        for c in range(classes):
            for k in range(dim):
                velocity[0][c][k] = momentum * velocity[0][c][k] + grad_w[c][k] + decay * weight[c][k]
                weight[c][k] -= rate * velocity[0][c][k]
            velocity[1][c] = momentum * velocity[1][c] + grad_b[c] + decay * bias[c]
            bias[c] -= rate * velocity[1][c]


RECIPE = {"lr": 0.05, "batch_size": 4, "momentum": 0.9, "weight_decay": 1e-2}


class SlowClassifier:
    """A follower's classifier at its start, trained by :func:`slow_epoch`."""

    def __init__(self, classifier, epochs: int) -> None:
        follower = classifier.follower(feature_dim=5, epochs=epochs, seed=11, device=torch.device("cpu"))
        head = follower.trainer.head
        self.weight, self.bias = head.weight.double().tolist(), head.bias.double().tolist()
        self.velocity = ([[0.0] * 5 for _ in self.weight], [0.0] * len(self.bias))

    def train(self, features: torch.Tensor, labels: torch.Tensor, draw: torch.Generator, rate: float) -> None:
        order = torch.randperm(len(labels), generator=draw)
        rows, classes = features[order].double().tolist(), labels[order].tolist()
        slow_epoch(self.weight, self.bias, self.velocity, rows, classes, 4, rate, 0.9, 1e-2)

    def assert_equals(self, head: torch.nn.Linear) -> None:
        for found, expected in ((head.weight, self.weight), (head.bias, self.bias)):
            exact = torch.tensor(expected, dtype=torch.float64)
            torch.testing.assert_close(found.detach().double(), exact, rtol=1e-4, atol=1e-5)


def cosine(epoch: int, epochs: int) -> float:
    return 0.05 * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2


@pytest.mark.parametrize(
    ("alignment", "surplus", "newest"),
    [
        ("mean", "random", "current"),
        ("mean", "first", "current"),
        ("mean", "random", "previous"),
        ("variance", "random", "current"),
        ("class_agnostic", "random", "current"),
        ("none", "random", "current"),
    ],
)
def test_strong_against_slow_loops(alignment: str, surplus: Surplus, newest: str) -> None:
    epochs = 9
    classifier = method(variant="strong", alignment=alignment, surplus=surplus, newest=newest, recipe=RECIPE)
    fast = follow(classifier, epochs).result()

    slow, behind = SlowClassifier(classifier, epochs), int(newest == "previous")
    plan, trail = classifier.plan(), Trail(classifier.plan(), 5, torch.float32, "cpu")
    assert plan.n_b == math.ceil(13 / 4) and plan.max_depth == 4
    on_trails = 0
    for snapshot in snapshots(epochs)[: epochs - behind]:
        # Epoch e trains on A^e, or on A^(e-1) where the newest is the previous.
        epoch = snapshot.epoch + behind
        draw = generator("cpu", 11, "trail", epoch)
        if snapshot.epoch >= plan.max_depth:
            features, labels = assemble(snapshot, trail, alignment=alignment, generator=draw, surplus=surplus)
            on_trails += 1
        else:
            features, labels = class_balanced(snapshot, plan.n_b, draw)
        slow.train(features, labels, draw, cosine(epoch, epochs))
        trail.push(snapshot)
    assert fast.notes["epochs_on_trails"] == on_trails == 6 - behind
    slow.assert_equals(fast.head)


def test_weak_against_slow_loops() -> None:
    """Every epoch of the recipe draws the surplus of A^E anew, at the rate of its own cosine."""
    classifier = method(variant="weak", recipe={**RECIPE, "epochs": 3})
    fast = follow(classifier, 6).result()

    slow, trail = SlowClassifier(classifier, 6), Trail(classifier.plan(), 5, torch.float32, "cpu")
    *before, last = snapshots(6)
    for snapshot in before:
        trail.push(snapshot)
    for epoch in (1, 2, 3):
        draw = generator("cpu", 11, "trail", epoch)
        features, labels = assemble(last, trail, alignment="mean", generator=draw)
        slow.train(features, labels, draw, cosine(epoch, 3))
    slow.assert_equals(fast.head)


def test_state_goes_on_bit_for_bit() -> None:
    classifier = method(variant="strong", recipe={"batch_size": 4})
    whole = follow(classifier, 8).result()
    half = follow(classifier, 8, upto=5)
    resumed = classifier.follower(feature_dim=5, epochs=8, seed=11, device=torch.device("cpu"))
    resumed.load_state_dict(half.state_dict())
    shown, trail = snapshots(8), Trail(classifier.plan(), 5, torch.float32, "cpu")
    for snapshot in shown:
        if snapshot.epoch > 5:
            resumed.observe(snapshot, trail)
        trail.push(snapshot)
    assert torch.equal(resumed.result().head.weight, whole.head.weight)
    assert resumed.result().notes == whole.notes


def test_previous_is_one_epoch_behind() -> None:
    """The released code's order: A^(e-1) with the rate of epoch e, so the last snapshot is not used."""
    classifier = method(variant="strong", newest="previous", recipe={"batch_size": 4})
    follower = follow(classifier, 8)
    assert follower.result().notes["epochs"] == 7
    seven = follow(classifier, 8, upto=7)
    assert torch.equal(seven.result().head.weight, follower.result().head.weight)


def test_weak_sees_the_last_epoch_only() -> None:
    classifier = method(variant="weak", recipe={"batch_size": 4, "epochs": 3})
    assert not classifier.follows()
    assert follow(classifier, 6).result().notes == {
        "n_b": 4,
        "snapshots_of_rarest_class": 4,
        "epochs": 3,
        "epochs_on_trails": 3,
    }


def test_fixed_length_takes_ten_of_every_class() -> None:
    classifier = method(variant="weak", class_specific=False, alignment="none")
    assert classifier.plan().depth.tolist() == [10, 10, 10, 10]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "medium"}, "variant is one of weak, strong"),
        ({"alignment": "median"}, "unknown alignment 'median'"),
        ({"newest": "oldest"}, "newest is one of"),
        ({"surplus": "last"}, "surplus is one of"),
        ({"variant": "weak", "newest": "previous"}, "leave it out"),
        ({"recipe": {"epoch": 3}}, "unknown recipe key 'epoch'.*epochs"),
        ({"n_b": 0}, "n_B is at least 1"),
        ({"class_specific": False, "length": 0}, "at least 1 snapshot"),
    ],
)
def test_bad_choices(options: dict, sentence: str) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        method(**options)


def test_seeds_of_streams_do_not_meet() -> None:
    seeds = {derive_seed(s, "trail", e) for s in range(50) for e in range(50)}
    assert len(seeds) == 2500


def test_strong_without_snapshots_says_what_to_do(short: Callable, launch: Callable) -> None:
    keep_none = {"snapshots.keep": 0}
    launch(short("plain", **keep_none))
    with pytest.raises(LTBenchError, match="snapshots.keep='all'"):
        launch(short("breadcrumb_strong", **keep_none))
    # Weak needs no store: its trail is in the checkpoint.
    assert launch(short("breadcrumb_weak", **keep_none))
    # Nor does strong, when it is named in the call that trains.
    assert launch(short("breadcrumb_strong", **keep_none), folder="together")


@pytest.mark.parametrize(
    ("variant", "newest", "needed"),
    [("weak", "current", 4), ("strong", "current", 4), ("strong", "previous", 5)],
)
def test_a_classifier_that_would_see_no_trail_is_told(variant: str, newest: str, needed: int) -> None:
    classifier = method(variant=variant, newest=newest, recipe=RECIPE)
    with pytest.raises(
        LTBenchError, match=f"{variant} Breadcrumb back-tracks over 4 .* needs {needed} epochs"
    ):
        classifier.check(splits=("train", "test"), epochs=needed - 1)
    classifier.check(splits=("train", "test"), epochs=needed)
    assert follow(classifier, needed).result().notes["epochs_on_trails"] > 0
