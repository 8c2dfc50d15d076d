"""Convex combinations of the samples of a batch (Zhang et al., "mixup: Beyond Empirical Risk
Minimization", ICLR 2018, section 2): x~ = λ x_i + (1 - λ) x_j, y~ = λ y_i + (1 - λ) y_j.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_bench.losses.precision import at_least_float32

# Below it both gamma draws behind a Beta draw may underflow in float32, and their ratio is 1/2.
LEAST_ALPHA = 0.05


def mixing_coefficient(alpha: float, device: torch.device) -> Tensor:
    """λ ~ Beta(α, α), drawn from torch's global generator of ``device``, without waiting for it.

    Args:
        alpha: α, at least ``LEAST_ALPHA``; small values leave most samples nearly unmixed, 1 is uniform.
        device: where λ is wanted.

    Returns:
        A scalar tensor, float32, in [0, 1].
    """
    concentration = torch.full((), alpha, dtype=torch.float32, device=device)
    # Checking its arguments would read them back from the device.
    drawn: Tensor = torch.distributions.Beta(concentration, concentration, validate_args=False).sample()
    return drawn


def mix(samples: Tensor, partner: Tensor, coefficient: Tensor) -> Tensor:
    """λ x_i + (1 - λ) x_partner(i).

    Args:
        samples: (B, ...) float.
        partner: (B,) int64, the position in the batch of each sample's partner.
        coefficient: λ, a scalar tensor.

    Returns:
        The mixtures, with the shape and dtype of ``samples``.
    """
    weight = coefficient.to(samples.dtype)
    return samples * weight + samples[partner] * (1 - weight)


def mixed_cross_entropy(logits: Tensor, labels: Tensor, partner: Tensor, coefficient: Tensor) -> Tensor:
    """Cross-entropy with the mixed label: λ CE(z, y_i) + (1 - λ) CE(z, y_partner(i)), mean over the batch.

    Args:
        logits: (B, C) of the mixtures.
        labels: (B,) int64 of the unmixed samples.
        partner: (B,) int64, see :func:`mix`.
        coefficient: λ, a scalar tensor.

    Returns:
        A scalar, float32 or wider.
    """
    logits = at_least_float32(logits)
    weight = coefficient.to(logits.dtype)
    return weight * F.cross_entropy(logits, labels) + (1 - weight) * F.cross_entropy(logits, labels[partner])
