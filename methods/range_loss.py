"""Range loss (Zhang et al., "Range Loss for Deep Face Recognition with Long-Tailed Training Data",
ICCV 2017, section 3.3), the form of the paper.

    L = CE + α L_intra + β L_inter
    L_intra of a class = k / Σ_{r=1..k} 1 / D_r,   D_r its r-th largest squared distance of two samples
    L_inter = max(0, M - min_{c ≠ c'} ||x̄_c - x̄_c'||²),   x̄_c the mean of class c in the batch

k = 2. The pairs of a class are distinct pairs of different samples: a class with two samples in the batch
has one (k is then 1), a class with one sample has no intra term. Two traps of a public port are avoided:
it takes the zero diagonal of the distances into the minimum, which makes L_inter a constant, and it takes
the symmetric matrix for the pairs, so that the two largest are the same pair twice.

Departures, each an option: the intra terms of the batch's classes are averaged (the paper sums them over
the 4 identities of its batches; an image-balanced batch of 128 has dozens of classes, and the sum would
drown the cross-entropy), and features are L2-normalised first, so that the loss cannot be lowered by
shrinking them and one margin fits every backbone. Starting values M = 0.1 for normalised features and 5
otherwise, α = β = 0.5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.arguments import finite_number, is_whole
from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.distances import pairwise_distances, same_class
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task

REDUCTIONS = ("mean", "sum")
# Below this squared distance two samples count as equal: 1 / D stays finite, and so does its square.
LEAST_DISTANCE = 1e-12


def largest_in_class(distances: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest distances of the distinct pairs of each class, in fixed shapes.

    Args:
        distances: (B, B), symmetric.
        labels: (B,) int64.
        k: how many.

    Returns:
        Distances (B, k) and whether each exists (B, k) bool. Row i belongs to the class whose first sample
        in the batch is i; the other rows have none.
    """
    size = len(labels)
    same = same_class(labels)
    places = torch.arange(size, device=labels.device)
    first = torch.where(same, places, size).amin(1)
    pairs = same & (places.unsqueeze(1) < places)
    # Sorted by class, largest first in each: two stable sorts, without a number leaving the device.
    by_distance = distances.detach().flatten().argsort(descending=True, stable=True)
    group = torch.where(pairs, first.unsqueeze(1), size).flatten()
    order = by_distance[group[by_distance].argsort(stable=True)]
    members = same.sum(1)
    count = torch.where(first == places, members * (members - 1) // 2, 0)
    ranks = torch.arange(k, device=labels.device)
    taken = ((count.cumsum(0) - count).unsqueeze(1) + ranks).clamp_max(size * size - 1)
    values = distances.flatten().gather(0, order[taken].flatten()).view(size, k)
    return values, ranks < count.unsqueeze(1)


def intra_class_range(distances: Tensor, labels: Tensor, k: int, reduction: str = "mean") -> Tensor:
    """L_intra: the harmonic mean of each class's k largest distances (Zhang et al. 2017, section 3.3).

    Args:
        distances: (B, B), symmetric, from 0.
        labels: (B,) int64.
        k: how many; a class with fewer pairs has as many as it has pairs.
        reduction: ``mean`` or ``sum`` over the classes that have a pair.

    Returns:
        A scalar, 0 where no class has a pair.
    """
    values, exists = largest_in_class(distances, labels, k)
    inverse = torch.where(exists, 1 / values.clamp_min(LEAST_DISTANCE), 0.0).sum(1)
    number = exists.sum(1)
    present = number > 0
    terms = torch.where(present, number / torch.where(present, inverse, 1.0), 0.0)
    total = terms.sum()
    return total / present.sum().clamp_min(1) if reduction == "mean" else total


def inter_class_margin(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """L_inter: by how much the nearest two class centres of the batch fall short of M (ibid.).

    Args:
        features: (B, d) float.
        labels: (B,) int64.
        margin: M, a squared distance.

    Returns:
        A scalar, 0 where the batch has one class.
    """
    features, same = at_least_float32(features), same_class(labels)
    weights = same.to(features.dtype)
    # Row i is the centre of sample i's class: a centre that occurs more than once changes no minimum.
    centres = weights @ features / weights.sum(1, keepdim=True)
    nearest = pairwise_distances(centres).square().masked_fill(same, torch.inf).amin()
    return (margin - nearest).clamp_min(0)


@METHODS.register_module("range_loss")
class RangeLoss(Representation):
    """Cross-entropy with range loss.

    Args:
        task: the task.
        alpha: α, weight of the intra-class term.
        beta: β, weight of the inter-class term.
        k: largest distances of a class.
        normalise: whether features are L2-normalised for the two terms.
        margin: M; None is 0.1 for normalised features, 5 otherwise.
        reduction: ``mean`` or ``sum`` of the intra terms of the batch's classes.

    Raises:
        LTBenchError: a weight or a margin below 0, k below 1, or an unknown reduction.
    """

    def __init__(
        self,
        task: Task,
        alpha: float = 0.5,
        beta: float = 0.5,
        k: int = 2,
        normalise: bool = True,
        margin: float | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(task)
        margin = (0.1 if normalise else 5.0) if margin is None else margin
        if not is_whole(k, 1):
            raise LTBenchError(f"range_loss's k is a whole number from 1, got {k!r}")
        if reduction not in REDUCTIONS:
            raise LTBenchError(f"range_loss's reduction is 'mean' or 'sum', got {reduction!r}")
        self.alpha = finite_number(alpha, "range_loss's alpha")
        self.beta = finite_number(beta, "range_loss's beta")
        self.margin = finite_number(margin, "range_loss's margin")
        self.k, self.normalise, self.reduction = k, normalise, reduction

    def ranges(self, features: Tensor, labels: Tensor) -> Tensor:
        """α L_intra + β L_inter of features (B, d) with labels (B,), a scalar."""
        points = at_least_float32(features)
        points = F.normalize(points) if self.normalise else points
        squares = pairwise_distances(points).square()
        intra = intra_class_range(squares, labels, self.k, self.reduction)
        return self.alpha * intra + self.beta * inter_class_margin(points, labels, self.margin)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """Cross-entropy and range loss of a batch, a scalar."""
        features = model.features(batch.images)
        loss = self.criterion(*batch.gathered(model.head(features)))
        # Ranges are of the global batch.
        return loss + self.ranges(*batch.gathered(features))
