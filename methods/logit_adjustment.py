"""Logit adjustment (Menon, Jayasumana, Rawat, Jain, Veit and Kumar, "Long-Tail Learning via Logit
Adjustment", ICLR 2021).

Two ways to the balanced error from class priors π_j = n_j / N:

* in the loss (eq. 10), :class:`LogitAdjustment`: train on CE(z + τ log π, y), predict argmax z;
* post hoc (eq. 9), :class:`LogitAdjusted`: train on CE(z, y), predict argmax_j z_j - τ log π_j.

τ = 1 is the value that is consistent for the balanced error. Post hoc it may be chosen on validation: the
best mean per-class accuracy over linspace(0, 2, 21), and of equals the smallest τ. All candidates are scored
in one batched pass.

The recipe is the config's. The released code trains CIFAR-100-LT for 1419 epochs with Nesterov momentum, on
a ResNet-32 of another kind, and has 44.1 both ways.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from lt_bench.arguments import finite_number
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.accuracy import per_class_accuracy
from lt_bench.losses.class_priors import log_prior, prior_cross_entropy
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Prediction, Representation
from lt_bench.registry import METHODS
from lt_bench.task import Task

# Numbers that the adjusted logits of one pass over candidates may hold: 64 MB in float32.
ROOM = 2**24


def adjusted_accuracies(logits: Tensor, labels: Tensor, log_prior: Tensor, taus: Sequence[float]) -> Tensor:
    """Mean per-class accuracy of argmax_j z_j - τ log π_j for every τ, over the classes in ``labels``.

    Args:
        logits: (n, C) floating point.
        labels: (n,) int64.
        log_prior: (C,) log π_j.
        taus: T candidates.

    Returns:
        (T,) float64, between 0 and 1.
    """
    logits = at_least_float32(logits)
    shifts = torch.tensor(taus, dtype=logits.dtype, device=logits.device)[:, None] * log_prior.to(logits)
    # T · C numbers a row; rows are taken as many at a time as there is room for.
    rows = max(1, ROOM // shifts.numel())
    predictions = [(chunk - shifts[:, None]).argmax(2) for chunk in logits.split(rows)]
    return per_class_accuracy(torch.cat(predictions, 1), labels, logits.shape[1]).nanmean(1)


@METHODS.register_module("logit_adjustment")
class LogitAdjustment(Representation):
    """Stage 1 by the logit-adjusted loss.

    Args:
        task: the task.
        tau: τ, from 0.

    Raises:
        LTBenchError: a τ below 0 or not finite.
    """

    log_prior: Tensor

    def __init__(self, task: Task, tau: float = 1.0) -> None:
        super().__init__(task)
        self.tau = finite_number(tau, "logit_adjustment's tau")
        self.register_buffer("log_prior", log_prior(task.counts), persistent=False)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The logit-adjusted loss of logits (B, C) for labels (B,)."""
        return prior_cross_entropy(logits, labels, self.log_prior, self.tau)


@METHODS.register_module("logit_adjusted")
class LogitAdjusted(Prediction):
    """Post-hoc logit adjustment.

    It expects logits of a classifier that was trained on the data as it is. After balanced sampling or a
    loss that has the prior in it, it would correct a second time.

    Args:
        task: the task.
        tau: τ, from 0; ``"val"`` chooses it on validation.

    Raises:
        LTBenchError: a τ that is neither.
    """

    def __init__(self, task: Task, tau: float | str = 1.0) -> None:
        super().__init__(task)
        self.candidates = [round(0.1 * step, 1) for step in range(21)]
        self.log_prior = log_prior(task.counts)
        if isinstance(tau, str) and tau != "val":
            raise LTBenchError(f"logit_adjusted's tau is a number from 0 or 'val', got {tau!r}")
        self.tau = None if isinstance(tau, str) else finite_number(tau, "logit_adjusted's tau")

    def check(self, *, splits: Collection[str], epochs: int) -> None:
        """τ is chosen on a split that must be there."""
        if self.tau is None and "val" not in splits:
            raise LTBenchError(
                f"logit_adjusted chooses tau on validation, which {self.task.dataset} lacks; "
                "set method.prediction.tau=1.0"
            )

    def fit(self, val: tuple[Tensor, Tensor] | None) -> tuple[dict[str, Any], str]:
        """Choose τ where it is to be chosen.

        Args:
            val: validation logits (n, C) and labels (n,).

        Returns:
            ``{"prediction_tau": τ}`` and ``"val"``, or nothing and ``"none"`` for a fixed τ. The name is
            another than that of tau_norm's τ, which a record may hold beside it.

        """
        if self.tau is not None:
            return {}, "none"
        if val is None:
            raise RuntimeError("check() refuses a dataset without the split that tau is chosen on")
        logits, labels = val
        scores = adjusted_accuracies(logits, labels, self.log_prior.to(logits.device), self.candidates)
        self.tau = self.candidates[int(scores.argmax())]
        return {"prediction_tau": self.tau}, "val"

    def __call__(self, logits: Tensor) -> Tensor:
        """z - τ log π (Menon et al. 2021, eq. 9), (n, C) -> (n, C).

        Raises:
            LTBenchError: τ is to be chosen and has not been.
        """
        if self.tau is None:
            raise LTBenchError("logit_adjusted with tau='val' is fitted before it predicts; call fit first")
        logits = at_least_float32(logits)
        return logits - self.tau * self.log_prior.to(logits)
