"""Figure 5b of the Breadcrumb paper: hard examples of few-shot classes in each epoch of classifier training.

An example is a feature of A^e that the classifier is trained on, hard if its cross-entropy is above a
threshold (5 in the paper) in the step that trains on it. Weak and strong are replayed from the same
snapshots, with the config's settings: they are the classifiers that a run of the config gives. Strong trains
for the E epochs of stage 1 and weak for those of its recipe; the paper's figure has both over the same
epochs, which ``classifier_recipe.epochs`` sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import FEW
from lt_bench.method import FollowingClassifier, TrainedRepresentation
from lt_bench.registry import METHODS

HARD_LOSS = 5.0
VARIANTS = ("weak", "strong")


class HardExampleCounter:
    """Looks on while a classifier is trained, and counts; nothing is read back in a step.

    Args:
        counted: (C,) bool, the classes whose examples count.
        threshold: in nats.
    """

    def __init__(self, counted: Tensor, threshold: float) -> None:
        self.counted = counted
        self.threshold = threshold
        self._epochs: list[int] = []
        self._steps: list[Tensor] = []

    def __call__(self, epoch: int, logits: Tensor, labels: Tensor) -> None:
        """See :data:`lt_bench.fitting.Watch`."""
        self._epochs.append(epoch)
        self._steps.append(count_hard(logits, labels, self.counted, self.threshold))

    def by_epoch(self) -> pd.DataFrame:
        """``epoch``, ``hard`` and ``examples``, the examples of the counted classes in all."""
        counts = torch.stack(self._steps).cpu().numpy()
        steps = pd.DataFrame(counts, columns=["hard", "examples"])
        steps.insert(0, "epoch", self._epochs)
        return steps.groupby("epoch", as_index=False).sum()


def count_hard(logits: Tensor, labels: Tensor, counted: Tensor, threshold: float) -> Tensor:
    """How many examples of the counted classes are hard, and how many there are in all.

    Args:
        logits: (B, C) float.
        labels: (B,) int64.
        counted: (C,) bool.
        threshold: in nats.

    Returns:
        (2,) int64, on the device.
    """
    own = counted[labels]
    hard = F.cross_entropy(logits, labels, reduction="none") > threshold
    return torch.stack([(hard & own).sum(), own.sum()])


def hard_examples(
    stage: TrainedRepresentation, config: Mapping[str, Any], splits: tuple[str, ...], threshold: float
) -> pd.DataFrame:
    """Train the classifier of a config in its variants weak and strong, and count.

    Args:
        stage: with every snapshot.
        config: the config's ``method.classifier``.
        splits: those that the dataset has.
        threshold: in nats.

    Returns:
        A row a variant and epoch: ``variant``, ``epoch`` (of the classifier, from 1), ``hard``, ``examples``.

    Raises:
        LTBenchError: the classifier has no such variants, or the task no few-shot class.
    """
    task = stage.task
    few = (task.groups == FEW).to(stage.device)
    if not bool(few.any()):
        raise LTBenchError(
            f"figure 5b is about few-shot classes, and {task.dataset} has none under the convention "
            f"{task.convention!r}; take another convention or dataset"
        )
    if config.get("variant") not in VARIANTS or not issubclass(
        METHODS.get(config["type"]), FollowingClassifier
    ):
        raise LTBenchError(
            f"figure 5b replays a classifier in its variants weak and strong, and {config['type']!r} of this "
            "config names none; give a config of Breadcrumb, such as digits_lt/breadcrumb_strong"
        )
    curves = []
    for variant in VARIANTS:
        classifier: FollowingClassifier = METHODS.build({**config, "variant": variant, "task": task})
        classifier.check(splits=splits, epochs=stage.epochs)
        counter = HardExampleCounter(few, threshold)
        classifier.fit(stage, counter)
        counts = counter.by_epoch()
        counts.insert(0, "variant", variant)
        curves.append(counts)
    return pd.concat(curves, ignore_index=True)
