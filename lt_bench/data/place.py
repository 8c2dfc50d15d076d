"""Where in an epoch a loader is, so that a run stopped in the middle of one goes on there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lt_bench.errors import LTBenchError


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
        """Bring ``generator`` to this place: to the state of then, or to ``seed`` where there is none.

        Raises:
            LTBenchError: the state is of a generator of another kind of device.
        """
        if self.drawn is None:
            generator.manual_seed(seed)
            return
        if len(self.drawn) != len(generator.get_state()):
            raise LTBenchError(
                "the checkpoint was made in the middle of an epoch on another kind of device than "
                f"{generator.device.type}, which cannot go on with its draws; resume with the --device of "
                "before, or delete the preempted_*.pth to go on from the last whole epoch"
            )
        generator.set_state(self.drawn.cpu())
