"""Training a classifier head on features: the recipe of stage 2, shared by every method that has one.

Decoupling (Kang et al. 2020) and Breadcrumb use the same: SGD with momentum, a learning rate that
follows a cosine from ``lr`` towards 0 over the epochs, cross-entropy. The rate of epoch e (from 1) of E
is lr * (1 + cos(pi (e - 1) / E)) / 2: set before the epoch, so that no epoch is spent at rate 0.

Heads are stepped one by one, also where several learn from the same features. A product over several heads
may be summed in another order than that of one, and a result would hang on what else its call had named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number, is_whole
from lt_bench.errors import LTBenchError, near_names

# What looks on while a head is trained: takes the epoch (from 1), and the logits (B, C), without gradient,
# and labels (B,) of a step before its update.
Watch = Callable[[int, Tensor, Tensor], None]


class FeatureEpochs(Protocol):
    """Epochs of (features, labels) batches."""

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of epoch ``epoch`` (from 1): features (B, d) float32, labels (B,) int64."""
        ...


@dataclass(frozen=True)
class HeadRecipe:
    """How a head is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: samples a step.
        lr: learning rate of the first epoch.
        momentum: SGD's momentum.
        weight_decay: L2 penalty on weights and biases.
    """

    epochs: int = 10
    batch_size: int = 512
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if not is_whole(value, 1):
                raise LTBenchError(f"the recipe's {name} is a whole number from 1, got {value!r}")
        for name in ("lr", "momentum", "weight_decay"):
            finite_number(getattr(self, name), f"the recipe's {name}")

    @classmethod
    def of(cls, given: dict[str, Any] | HeadRecipe | None, **defaults: Any) -> HeadRecipe:
        """A recipe from a config's dict, with ``defaults`` for what the dict leaves open.

        Raises:
            LTBenchError: a key that a recipe does not have.
        """
        if isinstance(given, HeadRecipe):
            return given
        values = {**defaults, **(given or {})}
        known = asdict(cls())
        for key in values:
            if key not in known:
                raise LTBenchError(f"unknown recipe key {key!r}: {near_names(key, known)}")
        return cls(**values)

    def drawing(self, sampler: Mapping[str, Any]) -> dict[str, Any]:
        """Its epochs of images that ``sampler`` draws, see :meth:`lt_bench.method.Classifier.drawing`."""
        return {"sampler": sampler, "batch_size": self.batch_size, "epochs": self.epochs}

    def rate(self, epoch: int) -> float:
        """The learning rate of epoch ``epoch``, counted from 1."""
        return self.lr * (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2


class HeadTrainer:
    """A head, its optimiser and its schedule.

    Args:
        head: features (B, d) -> logits (B, C); trained in place.
        recipe: how.
        device: where the head lives.
        loss: logits (B, C) and labels (B,) -> scalar; cross-entropy unless given.
        after_step: called after every step, without gradient; a projection of the weights, say.

    Attributes:
        watch: called in every step, or None; it changes nothing.
    """

    def __init__(
        self,
        head: nn.Module,
        recipe: HeadRecipe,
        device: torch.device,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        after_step: Callable[[], None] | None = None,
    ) -> None:
        self.head = head.to(device)
        self.loss = loss
        self.after_step = after_step
        self.watch: Watch | None = None
        self.recipe = recipe
        parameters = [p for p in head.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            foreach=True,
        )
        self._device = device

    def epoch(self, epoch: int, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """One pass over ``batches`` of (features (B, d), labels (B,)) at epoch ``epoch``'s rate.

        Returns:
            The mean loss of the epoch's steps, a scalar tensor on the device.

        Raises:
            LTBenchError: the loss is not finite, or there was no batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(epoch)
        self.head.train()
        total = torch.zeros((), device=self._device)
        steps = 0
        for features, labels in batches:
            logits = self.head(features.float())
            loss = self.loss(logits, labels)
            if self.watch is not None:
                self.watch(epoch, logits.detach(), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            if self.after_step is not None:
                with torch.no_grad():
                    self.after_step()
            total += loss.detach()
            steps += 1
        self.head.eval()
        if not steps:
            raise LTBenchError(
                f"classifier training got no batch: the batch size {self.recipe.batch_size} is larger "
                "than an epoch's samples; set a smaller method.classifier.recipe.batch_size"
            )
        mean = total / steps
        if not torch.isfinite(mean):
            raise LTBenchError(
                f"the classifier's loss became {mean.item()} in its epoch {epoch}; "
                f"lower method.classifier.recipe.lr (now {self.recipe.lr}) or look at the features"
            )
        return mean

    def train(self, data: FeatureEpochs) -> None:
        """All epochs of the recipe over ``data``."""
        for epoch in range(1, self.recipe.epochs + 1):
            self.epoch(epoch, data.epoch(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Weights and momentum."""
        return {"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved weights and momentum."""
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


def shuffled_batches(
    features: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator
) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of a set of features in random order; a last, smaller one is kept.

    Args:
        features: (M, d).
        labels: (M,) int64.
        batch_size: samples a batch.
        generator: draws the order, on its own device.
    """
    order = torch.randperm(len(labels), generator=generator, device=generator.device)
    for rows in order.to(features.device).split(batch_size):
        yield features[rows], labels[rows]
