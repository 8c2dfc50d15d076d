"""The optimal linear classifier (W^e, b^e) of a snapshot (section 3.3 of the Breadcrumb paper).

*Which optimum.* The paper assumes a classifier that minimises every class loss (9) at once, (10); no softmax
classifier does (raising b_y always lowers L_y), and no run keeps the head of every epoch. The classifier
"learned at the end of epoch e, from the snapshots", (8), is the minimiser of the sum of class losses:

    (1 / C) sum_y L_y(Z_y, W, b) + (lambda / 2) (|W|^2 + |b|^2),

with lambda the weight decay of the config's classifier recipe. Without it there is no minimum: late features
are separable, and the loss falls for ever as the weights grow. With it the objective is strictly convex, has
one minimum, and is what class-balanced training of the config's classifier (cRT) descends to.

*How converged.* L-BFGS in float64 until no entry of the gradient is above 1e-7, in coordinates where the
curvature is at most 1: (1 / 2) X^T S X + lambda I bounds it (Boehning, 1992; S the samples' weights) and has
the Cholesky factor R, and V = (W, b) R^T is solved for. In the weights themselves it takes many times the
steps, and rounding may end the search before that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.errors import LTBenchError

GRADIENT = 1e-7
MOST_STEPS = 20_000

# W (C, d) and b (C,), float64.
LinearClassifier = tuple[Tensor, Tensor]


def optimal_classifier(features: Tensor, labels: Tensor, weight_decay: float) -> LinearClassifier:
    """The minimiser described above. It takes the memory of a few (N, C) float64 arrays.

    Args:
        features: (N, d) float.
        labels: (N,) int64; every class of 0 to C - 1 has a sample.
        weight_decay: lambda, above 0.

    Returns:
        W (C, d) and b (C,), float64, on the features' device.

    Raises:
        LTBenchError: lambda is not above 0 or too small for float64, or the optimum was not reached.
    """
    if not weight_decay > 0:
        raise LTBenchError(
            f"an optimal linear classifier needs a weight decay above 0, got {weight_decay}: separable "
            "features have none without; set classifier_recipe.weight_decay"
        )
    inputs = F.pad(features.double(), (0, 1), value=1.0)
    share = 1 / labels.bincount().double()
    curvature = (inputs * (share[labels] / (2 * len(share)))[:, None]).T @ inputs
    curvature.diagonal().add_(weight_decay)
    factor, failed = torch.linalg.cholesky_ex(curvature, upper=True)
    if failed:
        raise LTBenchError(
            f"a weight decay of {weight_decay} is lost in rounding beside these features; raise "
            "classifier_recipe.weight_decay"
        )
    inputs = torch.linalg.solve_triangular(factor, inputs, upper=True, left=False)
    with torch.enable_grad():
        solved = torch.zeros(len(share), inputs.shape[1], dtype=torch.float64, device=inputs.device)
        solved.requires_grad_()
        solver = torch.optim.LBFGS(
            [solved],
            max_iter=MOST_STEPS,
            max_eval=2 * MOST_STEPS,
            tolerance_grad=GRADIENT,
            tolerance_change=0,
            history_size=50,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            solver.zero_grad()
            # Weighted so, the mean over samples is the mean of class losses.
            loss = F.cross_entropy(inputs @ solved.T, labels, weight=share)
            value = loss + weight_decay / 2 * _weights(solved, factor).square().sum()
            value.backward()
            return value

        solver.step(objective)
        objective()
    gradient = solved.grad
    if gradient is None or not float(gradient.abs().max()) <= GRADIENT:
        raise LTBenchError(
            f"no optimal linear classifier was found within {MOST_STEPS} steps of L-BFGS; raise "
            f"classifier_recipe.weight_decay (now {weight_decay})"
        )
    found = _weights(solved.detach(), factor)
    return found[:, :-1], found[:, -1]


def _weights(solved: Tensor, factor: Tensor) -> Tensor:
    """(W, b), (C, d + 1), from V = (W, b) R^T."""
    return torch.linalg.solve_triangular(factor.T, solved, upper=False, left=False)


def class_losses(features: Tensor, labels: Tensor, classifier: LinearClassifier) -> Tensor:
    """(9) for every class: the mean cross-entropy of its samples, in nats.

    Args:
        features: (N, d) float.
        labels: (N,) int64; every class has a sample.
        classifier: W (C, d) and b (C,).

    Returns:
        (C,) float64 on the CPU.
    """
    weight, bias = classifier
    losses = F.cross_entropy(features.double() @ weight.T + bias, labels, reduction="none")
    # On the CPU the sums run in one order, and a repetition gives the same bits.
    labels = labels.cpu()
    return labels.bincount(losses.cpu(), minlength=len(bias)) / labels.bincount(minlength=len(bias))
