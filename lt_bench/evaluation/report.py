"""From logits to the scores that a record keeps and a table shows.

Group accuracy is the mean of per-class accuracies; on a balanced test set the group means weighted
by their class counts therefore give top-1 (``Scores.overall``). Sums are ``math.fsum``, so that the
same histograms give the same digits on every machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.accuracy import class_f1, count_classes
from lt_bench.evaluation.calibration import binned_calibration_error, confidences
from lt_bench.evaluation.shots import GROUPS, group_sizes, shot_groups


@dataclass(frozen=True)
class Scores:
    """What one classifier scored on one test split, in percent.

    Attributes:
        convention: the name of the shot-group convention.
        overall: top-1 accuracy over test samples.
        mean_class: mean of per-class accuracies.
        many: mean of per-class accuracies of many-shot classes; None where there is no such class.
        medium: the same of medium-shot classes.
        few: the same of few-shot classes.
        worst_class: the lowest per-class accuracy.
        macro_f1: mean F1 over classes that have test samples.
        ece: expected calibration error, 15 bins; None where there were predictions but no logits.
        group_classes: how many classes each group has, by training counts.
        per_class: accuracy of each class; None for a class without a test sample.
        tested: test samples of each class.
    """

    convention: str
    overall: float
    mean_class: float
    many: float | None
    medium: float | None
    few: float | None
    worst_class: float
    macro_f1: float
    ece: float | None
    group_classes: dict[str, int]
    per_class: tuple[float | None, ...]
    tested: tuple[int, ...]


# The scores of one run, in percent.
PERCENTAGES = ("overall", "mean_class", "many", "medium", "few", "worst_class", "macro_f1", "ece")


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are there, exactly summed; None where there is none."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


def accuracy_scores(
    per_class: Sequence[float | None],
    tested: Sequence[int],
    counts: Sequence[int] | Tensor,
    convention: str,
) -> dict[str, float | None]:
    """The scores that follow from per-class accuracies alone.

    Args:
        per_class: C accuracies in percent, None where ``tested`` is 0.
        tested: C numbers of test samples.
        counts: C training counts.
        convention: a name of :data:`lt_bench.evaluation.shots.CONVENTIONS`.

    Returns:
        ``overall``, ``mean_class``, ``many``, ``medium``, ``few`` and ``worst_class``.

    Raises:
        LTBenchError: lengths that differ, or no test sample at all.
    """
    if not len(per_class) == len(tested) == len(counts):
        raise LTBenchError(
            "accuracies, test counts and training counts must be of the same classes, got "
            f"{len(per_class)}, {len(tested)} and {len(counts)}"
        )
    samples = sum(tested)
    if samples < 1:
        raise LTBenchError("no class has a test sample: there is nothing to score")
    groups = shot_groups(torch.as_tensor(counts, dtype=torch.int64), convention).tolist()
    present = [value for value in per_class if value is not None]
    scores: dict[str, float | None] = {
        "overall": math.fsum(
            value * size for value, size in zip(per_class, tested, strict=True) if value is not None
        )
        / samples,
        "mean_class": mean_or_none(per_class),
        "worst_class": min(present),
    }
    for number, name in enumerate(GROUPS):
        scores[name] = mean_or_none(
            value for value, group in zip(per_class, groups, strict=True) if group == number
        )
    return scores


def reduce_logits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """All that scoring needs of a batch's logits; nothing is read back from the device.

    Args:
        logits: (n, C) float. Single -inf are classes ruled out, and pass.

    Returns:
        predictions (n,) int64, the class of the largest logit; and confidence (n,), its softmax
        probability, which is NaN for a sample that has NaN, +inf or only -inf among its logits.

    Raises:
        LTBenchError: not a float matrix.
    """
    if logits.ndim != 2 or not logits.is_floating_point() or 0 in logits.shape:
        raise LTBenchError(
            f"logits must be floats of shape (samples, classes), got {logits.dtype} of shape "
            f"{tuple(logits.shape)}"
        )
    return logits.argmax(1), confidences(logits)


def evaluate(logits: Tensor, labels: Tensor, counts: Tensor, convention: str) -> Scores:
    """Score one classifier.

    Args:
        logits: (n, C) float, on any device.
        labels: (n,) integer test labels in [0, C).
        counts: (C,) integer training counts.
        convention: the shot-group convention: ``paper``, ``strict`` or ``inclusive``.

    Raises:
        LTBenchError: NaN logits, a label out of range, shapes that do not fit, an unknown
            convention.
    """
    predictions, confidence = reduce_logits(logits)
    if logits.shape[1] != len(counts):
        raise LTBenchError(
            f"logits have {logits.shape[1]} classes, the training counts {len(counts)}; "
            "score a model on the dataset it was trained for"
        )
    return evaluate_predictions(predictions, confidence, labels, counts, convention)


def evaluate_predictions(
    predictions: Tensor,
    confidence: Tensor | None,
    labels: Tensor,
    counts: Tensor,
    convention: str,
) -> Scores:
    """Score one classifier from its predictions.

    Args:
        predictions: (n,) integer classes.
        confidence: (n,) float softmax probabilities of the predictions; None gives no ``ece``.
        labels: (n,) integer test labels in [0, C).
        counts: (C,) integer training counts.
        convention: the shot-group convention.

    Raises:
        LTBenchError: as :func:`evaluate`; a confidence of NaN is a sign of NaN logits.
    """
    if confidence is not None and bool((broken := confidence.isnan()).any()):
        raise LTBenchError(
            f"the logits of {int(broken.sum())} of {len(broken)} samples are NaN or infinite "
            f"(first: sample {int(broken.int().argmax())}); the classifier has diverged: lower its "
            "learning rate or look at its training loss"
        )
    labels = labels.to(predictions.device)
    histograms = count_classes(predictions, labels, len(counts))
    hits, tested = histograms.hits.tolist(), tuple(histograms.tested.tolist())
    counts = counts.cpu()
    per_class = tuple(100.0 * hit / size if size else None for hit, size in zip(hits, tested, strict=True))
    f1 = class_f1(histograms).nan_to_num(0.0).tolist()  # an untested class adds 0 to the sum
    scores = Scores(
        convention=convention,
        macro_f1=100.0 * math.fsum(f1) / sum(size > 0 for size in tested),
        ece=None if confidence is None else binned_calibration_error(confidence, predictions == labels),
        group_classes=group_sizes(counts, convention),
        per_class=per_class,
        tested=tested,
        **accuracy_scores(per_class, tested, counts, convention),  # type: ignore[arg-type]
    )
    # From the hits themselves: exact, where products of rounded accuracies are not.
    return dataclasses.replace(scores, overall=100.0 * sum(hits) / sum(tested))


def regroup(scores: Scores, counts: Tensor, convention: str) -> Scores:
    """The same scores under another shot-group convention."""
    values = accuracy_scores(scores.per_class, scores.tested, counts, convention)
    return dataclasses.replace(
        scores,
        convention=convention,
        group_classes=group_sizes(counts, convention),
        many=values["many"],
        medium=values["medium"],
        few=values["few"],
    )
