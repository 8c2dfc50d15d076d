"""Expected calibration error (Guo et al. 2017, eq. 3): how far confidence is from accuracy.

Test samples are put into M bins of equal width by the confidence of their prediction, and
ECE = Σ_m |B_m| / n · |acc(B_m) − conf(B_m)|. Bins are closed on the right, as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError


def confidences(logits: Tensor) -> Tensor:
    """The softmax probability of the largest logit, (n, C) -> (n,) float32 (float64 if given)."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (logits.amax(1) - logits.logsumexp(1)).exp()


def binned_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    """ECE of predictions whose confidence is known.

    Args:
        confidence: (n,) float in [0, 1].
        correct: (n,) bool.
        bins: M, the number of bins of equal width.

    Returns:
        The error in percent, in [0, 100].

    Raises:
        LTBenchError: no sample, no bin, shapes that differ, or a confidence outside of [0, 1].
    """
    if bins < 1 or confidence.ndim != 1 or confidence.shape != correct.shape or len(correct) == 0:
        raise LTBenchError(
            "the calibration error needs at least one bin and one confidence for each of n > 0 "
            f"predictions, got {bins} bins, {tuple(confidence.shape)} and {tuple(correct.shape)}"
        )
    # On the CPU the sums below run in one order; a number is read back in any case.
    confidence, correct = confidence.double().cpu(), correct.cpu()
    # A softmax in float32 may exceed 1 by its rounding; NaN fails both comparisons.
    if not bool(((confidence >= 0) & (confidence <= 1 + 1e-5)).all()):
        raise LTBenchError("a confidence must lie in [0, 1]; are the logits finite?")
    inner_edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    index = torch.bucketize(confidence, inner_edges)  # edge[i-1] < confidence <= edge[i]
    # |B_m| · |acc − conf| is the absolute value of the sum over the bin of (correct − confidence).
    gap = torch.zeros(bins, dtype=torch.float64)
    gap.index_add_(0, index, correct.double() - confidence)
    return float(100.0 * gap.abs().sum() / len(correct))
