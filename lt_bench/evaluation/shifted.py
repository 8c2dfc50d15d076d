"""Shifted test distributions: which classes are frequent at test time, and what accuracy that means.

Test-agnostic long-tailed recognition (Hong et al., LADE, CVPR 2021; Zhang et al., SADE, NeurIPS 2022)
judges one model under eleven test distributions: ``uniform``, ``forward-F`` (an exponential profile whose
most frequent class is the training data's most frequent) and ``backward-F`` (its least frequent), with
imbalance factors F of 2, 5, 10, 25 and 50. With r_j = 0..C-1 the rank of class j by training frequency,

    forward:  pi_j ~ F^(-r_j / (C - 1)),    backward:  pi_j ~ F^(-(C - 1 - r_j) / (C - 1)).

The papers draw a test set for each of them, with floor(n F^(-r / (C - 1))) of a class's n test images. The
mean of the per-class accuracies weighted by pi needs no draw and has no noise of one. It is the accuracy to
be expected on such a set but for that rounding, which on CIFAR-100-LT (n = 100) at F = 50 makes up to 0.5
percentage points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.accuracy import check_labels

FACTORS = (2, 5, 10, 25, 50)
SHIFTS = (
    *(f"forward-{factor}" for factor in reversed(FACTORS)),
    "uniform",
    *(f"backward-{factor}" for factor in FACTORS),
)


def parse_shift(name: str) -> tuple[str, float]:
    """Direction and imbalance factor of a distribution's name, e.g. ``("backward", 50.0)``.

    Args:
        name: ``uniform``, ``forward-F`` or ``backward-F`` with a number F from 1.

    Raises:
        LTBenchError: another name.
    """
    direction, _, factor = str(name).partition("-")
    try:
        value = float(factor) if factor else None
    except ValueError:
        value = None
    if direction == "uniform" and not factor:
        return "uniform", 1.0
    if direction not in ("forward", "backward") or value is None or not 1 <= value < math.inf:
        raise LTBenchError(
            f"a test distribution is 'uniform', 'forward-F' or 'backward-F' with a factor F from 1, "
            f"such as 'backward-50'; got {name!r}"
        )
    return direction, value


def shifted_distribution(counts: Tensor, name: str) -> Tensor:
    """The test class distribution of a name.

    Args:
        counts: (C,) integers, training images of each class; equal counts rank in the order of classes.
        name: see :func:`parse_shift`.

    Returns:
        (C,) float64, sums to 1.

    Raises:
        LTBenchError: another name, or counts that are no vector.
    """
    if counts.ndim != 1 or counts.numel() == 0:
        raise LTBenchError(
            f"a test distribution needs a training count a class, got shape {tuple(counts.shape)}"
        )
    direction, factor = parse_shift(name)
    order = torch.argsort(counts, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    place = rank if direction == "forward" else len(order) - 1 - rank
    profile = factor ** (-place.double() / max(len(order) - 1, 1))
    return profile / profile.sum()


def expected_accuracy(class_accuracy: Tensor, distribution: Tensor) -> Tensor:
    """sum_j pi_j acc_j: expected accuracy on test data with class distribution pi.

    Args:
        class_accuracy: ([T,] C) float, NaN for a class without a test sample; such a class is left out
            and its share goes to the others in proportion.
        distribution: (C,) float, not negative.

    Returns:
        () or (T,) float64 in the unit of ``class_accuracy``; NaN where no class with a share was tested.

    Raises:
        LTBenchError: shapes that do not fit.
    """
    if distribution.ndim != 1 or class_accuracy.shape[-1] != len(distribution):
        raise LTBenchError(
            f"accuracies of {class_accuracy.shape[-1]} classes do not fit a distribution of shape "
            f"{tuple(distribution.shape)}"
        )
    share = distribution.double() * (~class_accuracy.isnan())
    return (class_accuracy.double().nan_to_num(0.0) * share).sum(-1) / share.sum(-1)


def shifted_subset(labels: Tensor, distribution: Tensor, generator: torch.Generator) -> Tensor:
    """The largest draw without replacement from a split whose classes are distributed as asked.

    Class j gives floor(s * pi_j) images, at least 1, with the largest s that no class falls short of. (The
    released profile is floor(N_max * F^(-r / (C - 1))): the same where every class has N_max images.)
    A class without images is left out.

    Args:
        labels: (n,) integers.
        distribution: (C,) float, positive.
        generator: draws the images, on the device of ``labels``.

    Returns:
        (m,) int64 positions, ascending.

    Raises:
        LTBenchError: labels out of range, or none.
    """
    num_classes = len(distribution)
    check_labels(labels, num_classes, "labels to draw from")
    available = torch.bincount(labels, minlength=num_classes).double()
    pi = distribution.to(available)
    scale = torch.where(available > 0, available / pi, torch.inf).min()
    # A product that should be whole may fall a rounding short of it.
    wanted = (scale * pi + 1e-6).floor().clamp_min(1).long()
    shuffle = torch.randperm(len(labels), generator=generator, device=labels.device)
    by_class = shuffle[torch.argsort(labels[shuffle], stable=True)]
    drawn = labels[by_class]
    starts = available.long().cumsum(0) - available.long()
    within = torch.arange(len(labels), device=labels.device) - starts[drawn]
    return by_class[within < wanted[drawn]].sort().values
