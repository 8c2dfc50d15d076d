"""Where in an epoch a loader is, so that a run stopped in the middle of one goes on there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LoaderPlace:
    """A place in an epoch.

    Attributes:
        batches: how many were given.
        drawn: state of the generator of batch transforms after them; None at the epoch's start.
    """

    batches: int
    drawn: Tensor | None = None

    def seed(self, generator: torch.Generator, seed: int) -> None:
        """Bring ``generator`` to this place: to the state of then, or to ``seed`` where there is none."""
        if self.drawn is None:
            generator.manual_seed(seed)
        else:
            generator.set_state(self.drawn.cpu())
