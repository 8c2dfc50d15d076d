"""Breadcrumb (Liu et al., "Breadcrumbs: Adversarial Class-Balanced Sampling for Long-Tailed
Recognition", ECCV 2022): a new linear classifier trained on feature trails A^e, section 4.

EMANATE (section 3.2) takes features of class j from the last K_j = ceil(n_B / n_j) snapshots, aligned to
the newest by class means (5), until there are n_B = ceil(N / C) of every class (14).

* *weak*: the classifier is trained on A^E of the last epoch only (section 4.1), for the recipe's epochs;
  the surplus of the oldest snapshot is drawn anew every epoch.
* *strong*: epoch e of the classifier is trained on A^e, for e = 1..E (section 4.2). While some class has
  fewer than K_j snapshots, the epoch is class-balanced sampling of Z^e. The released code samples images
  there, which costs a forward pass more; features of the same epoch are used here.

Equation (14) has two slips: the oldest snapshot is e - (K_j - 1), and n_B - (K_j - 1) n_j of its features
are drawn. The released code differs from the paper; its choices are options here: features of the
training forward instead of an end-of-epoch pass (``snapshots.capture``), the last completed epoch as the
newest snapshot (``newest="previous"``), the first rows as the surplus (``surplus="first"``), and a rounded
n_B (``n_b``). Its classifier takes a step for every step of the backbone, in one run; since those steps
never touch the backbone, that is a strong classifier trained alongside stage 1.

Rows of the paper's Table 1: *+ back-tracking* is weak, not class-specific, without alignment, over the
last 10 epochs; *+ class-specific* is weak without alignment.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from lt_bench.errors import LTBenchError
from lt_bench.fitting import HeadRecipe, HeadTrainer, Watch, shuffled_batches
from lt_bench.method import FittedClassifier, FollowingClassifier, TrailFollower
from lt_bench.models.heads import linear_head
from lt_bench.registry import ALIGNMENTS, METHODS
from lt_bench.seeding import derive_seed, generator
from lt_bench.snapshots.assembly import Surplus, assemble, class_balanced
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan, fixed_length_plan
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.trail import Trail
from lt_bench.task import Task

VARIANTS = ("weak", "strong")
NEWEST = ("current", "previous")
SURPLUS = ("random", "first")


@METHODS.register_module("breadcrumb")
class Breadcrumb(FollowingClassifier):
    """A classifier trained on feature trails.

    Args:
        task: the task.
        variant: ``weak`` or ``strong``.
        alignment: a name of ALIGNMENTS: mean, variance, class_agnostic or none.
        class_specific: K_j snapshots of class j; False takes ``length`` of every class.
        length: snapshots of every class where the trail is not class-specific.
        n_b: features a class; None is ceil(N / C).
        newest: the newest snapshot in A^e: ``current`` is Z^e; ``previous`` is Z^(e-1), so epoch e of the
            classifier trains on what is assembled at the end of epoch e - 1, and its first epoch is empty.
        surplus: which features of the oldest snapshot fill up to n_B: ``random`` or ``first``.
        recipe: how the classifier is trained; its epochs are those of weak, strong has stage 1's.

    Raises:
        LTBenchError: a choice that does not exist.
    """

    def __init__(
        self,
        task: Task,
        variant: str = "strong",
        alignment: str = "mean",
        class_specific: bool = True,
        length: int = 10,
        n_b: int | None = None,
        newest: str = "current",
        surplus: str = "random",
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(task)
        for name, value, known in (
            ("variant", variant, VARIANTS),
            ("newest", newest, NEWEST),
            ("surplus", surplus, SURPLUS),
        ):
            if value not in known:
                raise LTBenchError(f"breadcrumb's {name} is one of {', '.join(known)}; got {value!r}")
        ALIGNMENTS.get(alignment)
        if newest == "previous" and variant == "weak":
            raise LTBenchError(
                "breadcrumb's newest='previous' is the order of a strong run's steps; "
                "weak has only A^E: leave it out"
            )
        self.variant = variant
        self.alignment = alignment
        self.newest = newest
        self.surplus: Surplus = "first" if surplus == "first" else "random"
        self.recipe = HeadRecipe.of(recipe)
        self._plan = (
            class_specific_plan(task.counts, n_b)
            if class_specific
            else fixed_length_plan(task.counts, length, n_b)
        )

    def check(self, *, splits: Collection[str], epochs: int) -> None:
        """One epoch at least must have a whole trail: without one it would be another method."""
        needed = self._plan.max_depth + (self.newest == "previous")
        if epochs < needed:
            raise LTBenchError(
                f"{self.variant} Breadcrumb back-tracks over {self._plan.max_depth} snapshots, for which "
                f"stage 1 needs {needed} epochs, and it has {epochs}; train longer, or lower "
                "method.classifier.n_b or method.classifier.length"
            )

    def plan(self) -> BacktrackPlan:
        """Depths K_j and the target n_B."""
        return self._plan

    def follows(self) -> bool:
        """Strong wants every epoch's snapshot, weak the last."""
        return self.variant == "strong"

    def follower(self, *, feature_dim: int, epochs: int, seed: int, device: torch.device) -> TrailFollower:
        """A classifier at its start."""
        return BreadcrumbFollower(self, feature_dim, epochs, seed, device)


class BreadcrumbFollower(TrailFollower):
    """The classifier in training.

    Args:
        method: its settings.
        feature_dim: d.
        epochs: E of stage 1.
        seed: the run's seed.
        device: where it is trained.
    """

    def __init__(
        self,
        method: Breadcrumb,
        feature_dim: int,
        epochs: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.method = method
        self.plan = method.plan()
        self.seed = seed
        self.device = device
        recipe = method.recipe
        if method.variant == "strong":
            recipe = HeadRecipe.of({**vars(recipe), "epochs": epochs})
        head = linear_head(feature_dim, method.task.num_classes, derive_seed(seed, "breadcrumb"))
        self.trainer = HeadTrainer(head, recipe, device)
        self.trail_epochs = 0
        self.epochs_seen = 0

    def observe(self, snapshot: Snapshot, trail: Trail) -> None:
        """Strong: one epoch on A^e. Weak: all its epochs on A^E."""
        if self.method.variant == "strong":
            epoch = snapshot.epoch + (self.method.newest == "previous")
            if epoch <= self.trainer.recipe.epochs:
                self._train(snapshot, trail, epoch)
        else:
            for epoch in range(1, self.trainer.recipe.epochs + 1):
                self._train(snapshot, trail, epoch)

    def watch(self, see: Watch) -> None:
        """See the base class."""
        self.trainer.watch = see

    def _train(self, snapshot: Snapshot, trail: Trail, epoch: int) -> None:
        draw = generator(self.device, self.seed, "trail", epoch)
        if trail.ready(snapshot.epoch):
            features, labels = assemble(
                snapshot,
                trail,
                alignment=self.method.alignment,
                generator=draw,
                surplus=self.method.surplus,
            )
            self.trail_epochs += 1
        else:
            features, labels = class_balanced(snapshot, self.plan.n_b, draw)
        self.epochs_seen += 1
        batches = shuffled_batches(features, labels, self.trainer.recipe.batch_size, draw)
        self.trainer.epoch(epoch, batches)

    def result(self) -> FittedClassifier:
        """The classifier, and how many of its epochs had trails."""
        return FittedClassifier(
            self.trainer.head.eval(),
            notes={
                "n_b": self.plan.n_b,
                "snapshots_of_rarest_class": self.plan.max_depth,
                "epochs": self.epochs_seen,
                "epochs_on_trails": self.trail_epochs,
            },
        )

    def state_dict(self) -> dict[str, Any]:
        """Classifier, momentum and counters."""
        return {
            "trainer": self.trainer.state_dict(),
            "trail_epochs": self.trail_epochs,
            "epochs_seen": self.epochs_seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.trainer.load_state_dict(state["trainer"])
        self.trail_epochs = int(state["trail_epochs"])
        self.epochs_seen = int(state["epochs_seen"])
