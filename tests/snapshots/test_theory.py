"""Section 3.3 of the Breadcrumb paper on optimal linear classifiers: what holds, and what needs more.

Notation: L_y(Z, W, b) is the class loss (9), L = sum_y L_y the total (8), t_y = mean_y^e - mean_y^{e'} the
shift that mean alignment gives class y. The lemma's proof needs only that alignment is a change of bias,

    L_y(Z_y^{e'->e}, W^e, b^e) = L_y(Z_y^{e'}, W^e, b^e + W^e t_y),                               (*)

so that A_y = Z_y^e + Z_y^{e'->e} gives, for every class and any classifiers,

    increase_y - gain_y / 2 = [L_y(Z_y^{e'}, W^e, b^e + W^e t_y) - L_y(Z_y^{e'}, W^{e'}, b^{e'})] / 2,

and then that the bracket is not negative. (13), "the increase is at least half of the training gain" (as
printed both sides of it are halved once more), is therefore *equivalent* to the earlier classifier
being no worse for class y, on its own snapshot, than the later one shifted by t_y.

The paper takes that from (10): (W^{e'}, b^{e'}) minimises *every* L_y over all (W, b). No softmax
classifier of two or more classes does: raising b_y always lowers L_y, whose infimum is 0. What training
gives is the minimum of the *sum* (8). With that:

* (13) holds for the total loss if all classes move alike, t_y = t (then the bracket, summed, compares
  two classifiers of one loss), and so does Theorem 1. Here the moves may be of any size, and the
  features may change around their means in any way.
* (13) holds class by class if in addition the classes are interchangeable, so that no class's loss is
  lowered at the expense of another's; here: they are rotations of one another.
* Without these it can fail. Classes that move apart rigidly lower the loss, and yet EMANATE adds exact
  copies: the increase is 0. And with t_y = t a single class may fall short though the total does not.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lt_bench.snapshots.assembly import assemble, class_balanced
from lt_bench.snapshots.plan import class_specific_plan
from lt_bench.snapshots.snapshot import Snapshot, make_snapshot
from lt_bench.snapshots.trail import Trail

Classifier = tuple[Tensor, Tensor]


def class_losses(features: Tensor, labels: Tensor, classifier: Classifier) -> Tensor:
    """(9) for every class: (C,)."""
    weight, bias = classifier
    surprise = -torch.log_softmax(features @ weight.T + bias, dim=1)
    picked = surprise[torch.arange(len(labels)), labels]
    return torch.stack([picked[labels == y].mean() for y in range(len(bias))])


def optimal_classifier(features: Tensor, labels: Tensor) -> Classifier:
    """The minimiser of (8), without regularisation; it exists because the classes overlap.

    Newton's method on the classifiers whose last class has weight and bias 0, which loses nothing: the
    softmax only sees differences.
    """
    classes, size = int(labels.max()) + 1, features.shape[1] + 1
    inputs = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    # (8) gives every class the same weight.
    share = 1 / labels.bincount()[labels].double()
    target = torch.nn.functional.one_hot(labels, classes).double()

    def total(rows: Tensor) -> float:
        surprise = -torch.log_softmax(inputs @ rows.T, dim=1)
        return float((share[:, None] * target * surprise).sum())

    rows = torch.zeros(classes, size, dtype=torch.float64)
    for _ in range(60):
        chance = torch.softmax(inputs @ rows.T, dim=1)
        gradient = ((share[:, None] * (chance - target)).T @ inputs)[:-1].flatten()
        if gradient.abs().max() < 1e-13:
            break
        spread = torch.diag_embed(chance) - chance[:, :, None] * chance[:, None, :]
        curvature = torch.einsum("n,nab,nd,ne->adbe", share, spread, inputs, inputs)
        curvature = curvature[:-1, :, :-1].reshape(len(gradient), len(gradient))
        step = torch.linalg.solve(curvature, gradient)
        move = torch.cat([step.reshape(classes - 1, size), torch.zeros(1, size)])
        length, decrease = 1.0, float(gradient @ step)
        # Rounding hides a decrease once it is tiny; then the full step is right.
        while decrease > 1e-9 and total(rows - length * move) > total(rows) - 1e-4 * length * decrease:
            length /= 2
        rows = rows - length * move
    assert gradient.abs().max() < 1e-11 and rows.abs().max() < 1e3, "no optimum: separable classes"
    return rows[:, :-1], rows[:, -1]


def emanate(old: Tensor, new: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """A^e = Z^e and Z^{e'->e}, made by the code under test. The n_j are equal: n_B = 2 n_j."""
    n_b = 2 * int(counts[0])
    trail = Trail(class_specific_plan(counts, n_b), old.shape[1], torch.float64, "cpu")
    trail.push(make_snapshot(1, old, counts))
    snapshot = make_snapshot(2, new, counts)
    return assemble(snapshot, trail, alignment="mean", generator=None)


class Pair:
    """Two epochs e' < e of a run: their optimal classifiers, losses, increases and gains."""

    def __init__(self, old: Tensor, new: Tensor, classes: int) -> None:
        counts = torch.full((classes,), len(old) // classes)
        labels = torch.repeat_interleave(torch.arange(classes), counts)
        self.labels, self.old, self.new = labels, old, new
        self.before = optimal_classifier(old, labels)
        self.after = optimal_classifier(new, labels)
        self.old_loss = class_losses(old, labels, self.before)
        self.new_loss = class_losses(new, labels, self.after)
        augmented, whose = emanate(old, new, counts)
        self.increase = class_losses(augmented, whose, self.after) - self.new_loss
        self.gain = self.old_loss - self.new_loss
        first = make_snapshot(1, old, counts).mean
        self.shift = make_snapshot(2, new, counts).mean - first

    def shifted(self) -> Tensor:
        """L_y(Z_y^{e'}, W^e, b^e + W^e t_y), for every class: (C,)."""
        weight, bias = self.after
        losses = [
            class_losses(self.old, self.labels, (weight, bias + weight @ shift))[y]
            for y, shift in enumerate(self.shift)
        ]
        return torch.stack(losses)


def mixed(cloud: Tensor, generator: torch.Generator) -> Tensor:
    """Every feature becomes a weighted mean of its class's features, all with equal total weight.

    The class mean stays and, by convexity, the optimal loss does not grow: training converges.
    """
    weights = torch.rand(4, generator=generator, dtype=torch.float64) + 0.05
    weights[0] += 7.0
    weights /= weights.sum()
    orders = [torch.arange(len(cloud))] + [
        torch.randperm(len(cloud), generator=generator) for _ in weights[1:]
    ]
    return sum(w * cloud[order] for w, order in zip(weights, orders, strict=True))


def run_moving_together(seed: int, epochs: int = 4) -> tuple[list[Tensor], int]:
    """A random convergent run of 2 to 4 overlapping classes whose means move alike."""
    generator = torch.Generator().manual_seed(seed)
    classes, dim, size = 2 + seed % 3, 2 + seed % 2, 24
    centres = 0.8 * torch.randn(classes, 1, dim, generator=generator, dtype=torch.float64)
    clouds = 2 * torch.randn(classes, size, dim, generator=generator, dtype=torch.float64)
    features = centres + clouds
    snapshots = []
    for _ in range(epochs):
        snapshots.append(features.reshape(-1, dim))
        move = 5 * torch.randn(dim, generator=generator, dtype=torch.float64)
        features = torch.stack([mixed(cloud, generator) for cloud in features]) + move
    return snapshots, classes


def run_of_rotated_classes(seed: int, epochs: int = 4) -> tuple[list[Tensor], int]:
    """The same, of classes that are rotations of one another about the common mean."""
    generator = torch.Generator().manual_seed(seed)
    classes, size = 2 + seed % 4, 20
    cloud = 2 * torch.randn(size, 2, generator=generator, dtype=torch.float64)
    cloud += torch.tensor([0.7, 0.2], dtype=torch.float64)
    place = torch.zeros(2, dtype=torch.float64)
    snapshots = []
    for _ in range(epochs):
        turned = []
        for y in range(classes):
            angle = 2 * math.pi * y / classes
            turn = torch.tensor(
                [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
                dtype=torch.float64,
            )
            turned.append(cloud @ turn.T)
        snapshots.append(torch.cat(turned) + place)
        cloud = mixed(cloud, generator)
        place = place + torch.randn(2, generator=generator, dtype=torch.float64)
    return snapshots, classes


def run_in_any_way(seed: int, epochs: int = 3) -> tuple[list[Tensor], int]:
    """Nothing shared between epochs but the classes: new clouds around new means."""
    generator = torch.Generator().manual_seed(seed)
    classes, dim = 2 + seed % 3, 2
    snapshots = []
    for _ in range(epochs):
        centres = torch.randn(classes, 1, dim, generator=generator, dtype=torch.float64)
        clouds = 2 * torch.randn(classes, 25, dim, generator=generator, dtype=torch.float64)
        snapshots.append((centres + clouds).reshape(-1, dim))
    return snapshots, classes


def pairs(run: tuple[list[Tensor], int]) -> list[Pair]:
    snapshots, classes = run
    return [Pair(snapshots[i], snapshots[k], classes) for k in range(len(snapshots)) for i in range(k)]


def long_tailed_snapshot(seed: int) -> tuple[Snapshot, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor([24, 12, 6, 3])
    labels = torch.repeat_interleave(torch.arange(4), counts)
    features = 2 * torch.randn(45, 2, generator=generator, dtype=torch.float64)
    return make_snapshot(1, features + labels[:, None], counts), labels


# --- Corollary 1


@pytest.mark.parametrize("seed", range(5))
def test_corollary_1_repetition_leaves_every_class_loss_unchanged(seed: int) -> None:
    """n_B is a multiple of every n_j, so that class-balanced sampling repeats every feature alike."""
    snapshot, labels = long_tailed_snapshot(seed)
    classifier = optimal_classifier(snapshot.features, labels)
    before = class_losses(snapshot.features, labels, classifier)
    repeated, whose = class_balanced(snapshot, 48, torch.Generator().manual_seed(seed))
    assert whose.bincount().tolist() == [48] * 4
    after = class_losses(repeated, whose, classifier)
    torch.testing.assert_close(after, before, rtol=1e-13, atol=0)


def test_corollary_1_on_average_where_n_b_is_no_multiple() -> None:
    """A drawn remainder moves the loss, but to neither side: its mean over draws is the class loss."""
    snapshot, labels = long_tailed_snapshot(0)
    classifier = optimal_classifier(snapshot.features, labels)
    before = class_losses(snapshot.features, labels, classifier)
    generator = torch.Generator().manual_seed(0)
    after = torch.stack(
        [class_losses(*class_balanced(snapshot, 16, generator), classifier) for _ in range(400)]
    )
    error = after.std(0) / math.sqrt(400)
    assert ((after.mean(0) - before).abs() < 5 * error + 1e-12).all()
    assert (after[:, 0] > before[0]).any() and (after[:, 0] < before[0]).any()


# --- Assumption (10)


@pytest.mark.parametrize("seed", range(5))
def test_no_classifier_satisfies_assumption_10(seed: int) -> None:
    """At the optimum of the total, every single class would gain from a larger bias, down to 0."""
    snapshot, labels = long_tailed_snapshot(seed)
    weight, bias = optimal_classifier(snapshot.features, labels)
    here = class_losses(snapshot.features, labels, (weight, bias))
    for y in range(4):
        losses = [here[y]]
        for more in (0.1, 1.0, 10.0, 50.0):
            raised = bias.clone()
            raised[y] += more
            losses.append(class_losses(snapshot.features, labels, (weight, raised))[y])
        assert all(a > b for a, b in zip(losses, losses[1:], strict=False))
        assert losses[-1] < 1e-12


# --- Lemma 1


@pytest.mark.parametrize("seed", range(6))
def test_what_the_lemma_is_equivalent_to(seed: int) -> None:
    """(*) and the identity after it, class by class, whatever the run does."""
    for run in (run_in_any_way(seed), run_moving_together(seed, epochs=3)):
        for pair in pairs(run):
            bracket = pair.shifted() - pair.old_loss
            torch.testing.assert_close(pair.increase - pair.gain / 2, bracket / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_lemma_1_for_the_total_loss_when_classes_move_alike(seed: int) -> None:
    """(13) and Theorem 1 in the total loss (8), over all pairs of epochs of a random convergent run."""
    for pair in pairs(run_moving_together(seed)):
        gain, increase = float(pair.gain.sum()), float(pair.increase.sum())
        assert gain > 1e-4, "the run does not converge"
        assert (pair.shift - pair.shift[0]).abs().max() < 1e-12
        assert increase >= gain / 2 - 1e-12
        assert increase > 0


@pytest.mark.parametrize("seed", range(6))
def test_lemma_1_for_the_total_loss_needs_no_convergence(seed: int) -> None:
    """(13) when only the means are fixed: the gain may be of either sign, the bound holds."""
    snapshots, classes = run_in_any_way(seed)
    counts = torch.full((classes,), len(snapshots[0]) // classes)
    means = [make_snapshot(1, features, counts).mean for features in snapshots]
    fixed = [
        features + torch.repeat_interleave(means[0] - mean, counts, dim=0)
        for features, mean in zip(snapshots, means, strict=True)
    ]
    pair = Pair(fixed[1], fixed[2], classes)
    back = Pair(fixed[2], fixed[1], classes)
    assert float(pair.gain.sum()) * float(back.gain.sum()) < 0
    for each in (pair, back):
        assert float(each.increase.sum()) >= float(each.gain.sum()) / 2 - 1e-12


@pytest.mark.parametrize("seed", range(12))
def test_lemma_1_class_by_class_when_classes_are_interchangeable(seed: int) -> None:
    """(13) and Theorem 1 in every class loss (9)."""
    for pair in pairs(run_of_rotated_classes(seed)):
        assert float(pair.gain.min()) > 1e-4, "the run does not converge"
        assert (pair.increase >= pair.gain / 2 - 1e-9).all()
        assert (pair.increase > 0).all()


def test_lemma_1_fails_when_classes_move_apart() -> None:
    """The loss falls by more than a half, and EMANATE adds nothing but copies: increase 0, gain > 0.

    Classes of one dimension, at -m and m, with features at m - 2, m - 1, m, m + 1, m + 2.
    """
    cloud = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    old = torch.cat([cloud - 0.2, cloud + 0.2])[:, None]
    new = torch.cat([cloud - 1.5, cloud + 1.5])[:, None]
    pair = Pair(old, new, classes=2)
    assert (pair.new_loss < pair.old_loss / 2).all()
    torch.testing.assert_close(pair.increase, torch.zeros(2, dtype=torch.float64))
    assert (pair.increase < pair.gain / 2 - 0.1).all()
    # The hypothesis that fails: shifted, the later classifier is better than the earlier one.
    assert (pair.shifted() < pair.old_loss - 0.1).all()


def test_lemma_1_may_fail_for_one_class_though_it_holds_for_the_total() -> None:
    """Classes that move alike: the optimum of the sum may favour some classes over another."""
    snapshots, classes = run_moving_together(seed=8)
    pair = Pair(snapshots[0], snapshots[1], classes)
    assert pair.increase.sum() > pair.gain.sum() / 2
    assert (pair.increase - pair.gain / 2).min() < -0.01
