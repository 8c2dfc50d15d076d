"""Accuracy and F1 class by class, for one classifier or many in one pass.

Everything starts from three integer histograms over classes: test samples, predictions and hits
(right predictions). They are exact on every device, and all T classifiers of a sweep (the 21
values of tau of tau-normalisation) share one ``bincount`` each.

A class without a test sample has no accuracy. On tensors that is NaN, which only
:mod:`lt_bench.evaluation.report` turns into None, and it is left out of every mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError


class ClassCounts(NamedTuple):
    """Integer histograms over C classes; the leading T is there if the predictions had it.

    Attributes:
        hits: ([T,] C) int64, test samples of a class that were predicted as it.
        predicted: ([T,] C) int64, predictions of a class.
        tested: (C,) int64, test samples of a class.
    """

    hits: Tensor
    predicted: Tensor
    tested: Tensor


def check_labels(labels: Tensor, num_classes: int, what: str = "test labels") -> None:
    """Refuse anything but integers in [0, num_classes).

    Raises:
        LTBenchError: another dtype, no label at all, or a label out of range.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise LTBenchError(f"{what} must be integers, got {labels.dtype}")
    if labels.numel() == 0:
        raise LTBenchError(f"{what} are empty: there is nothing to score")
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise LTBenchError(
            f"{what} must lie in 0..{num_classes - 1} ({num_classes} classes), got {low if low < 0 else high}"
        )


def count_classes(predictions: Tensor, labels: Tensor, num_classes: int) -> ClassCounts:
    """Hits, predictions and test samples of each class.

    Args:
        predictions: (n,) or (T, n) integer class predictions, of one or of T classifiers.
        labels: (n,) integer class labels.
        num_classes: C.

    Raises:
        LTBenchError: shapes that do not fit, or a class out of range.
    """
    if labels.ndim != 1 or predictions.ndim not in (1, 2) or predictions.shape[-1] != len(labels):
        raise LTBenchError(
            "predictions must be (n,) or (T, n) for labels of shape (n,), "
            f"got {tuple(predictions.shape)} for {tuple(labels.shape)}"
        )
    check_labels(labels, num_classes)
    check_labels(predictions, num_classes, "predictions")
    stacked = torch.atleast_2d(predictions).long()
    labels = labels.long()
    runs = len(stacked)
    # One bin more than there are classes takes the misses, so that no mask (and with it no
    # synchronisation) is needed and a histogram without weights stays exact and deterministic.
    bins = num_classes + 1
    offset = bins * torch.arange(runs, device=stacked.device)[:, None]
    hit_bin = torch.where(stacked == labels, labels, num_classes)

    def histogram(values: Tensor) -> Tensor:
        flat = torch.bincount((values + offset).flatten(), minlength=runs * bins)
        return flat.view(runs, bins)[:, :num_classes]

    shape = (*predictions.shape[:-1], num_classes)
    return ClassCounts(
        hits=histogram(hit_bin).reshape(shape),
        predicted=histogram(stacked).reshape(shape),
        tested=torch.bincount(labels, minlength=num_classes),
    )


def per_class_accuracy(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Accuracy of each class.

    Args:
        predictions: (n,) or (T, n) integers.
        labels: (n,) integers.
        num_classes: C.

    Returns:
        (C,) or (T, C) float64 in [0, 1]; NaN for a class without a test sample.
    """
    counts = count_classes(predictions, labels, num_classes)
    return counts.hits.double() / counts.tested


def class_f1(counts: ClassCounts) -> Tensor:
    """F1 of each class, 2·TP / (2·TP + FP + FN).

    Returns:
        ([T,] C) float64 in [0, 1]; NaN for a class without a test sample, even where it was
        predicted: like its accuracy it is left out of means.
    """
    f1 = 2.0 * counts.hits.double() / (counts.predicted + counts.tested)
    return torch.where(counts.tested > 0, f1, torch.nan)
