"""Features that a rehearsal has in place of a network's."""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.seeding import generator

# Rows of the noise that features share.
_NOISE_ROWS = 4096


class GeneratedFeatures:
    """Features of an epoch's samples, a pure function of (seed, epoch, sample).

    Args:
        classes: C.
        dim: d.
        device: where they are made.
        seed: of centres and noise.
    """

    def __init__(self, classes: int, dim: int, device: torch.device, seed: int) -> None:
        draw = generator("cpu", seed, "generated features")
        self._centres = torch.randn(classes, dim, generator=draw).to(device)
        self._noise = torch.randn(_NOISE_ROWS, dim, generator=draw).to(device)

    def of(self, labels: Tensor, samples: Tensor, epoch: int) -> Tensor:
        """(B, d) float32 of the given samples, (B,) int64 each."""
        drift = self._noise[epoch % _NOISE_ROWS] * 0.1
        # Odd steps through the noise: neighbours and epochs differ.
        rows = (samples * 2654435761 + epoch * 40503) % _NOISE_ROWS
        made = self._noise.index_select(0, rows)
        return made.add_(self._centres.index_select(0, labels)).add_(drift).relu_()
