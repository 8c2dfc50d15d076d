"""Class-balanced sampling: every class alike, with replacement (Kang et al., 2020, eq. 1 with q = 0).

Beside ``class_aware``, which cycles through classes and images in turn, this one draws independently: it
is the sampling of re-sampling baselines such as DRS of Cao et al. (LDAM-DRW, NeurIPS 2019), and an epoch
has N draws, as many as instance sampling. (The sampler of their code weighs classes by their effective
numbers, β = .9999, which leaves the largest class of CIFAR-10-LT 1.27 times as likely as the rarest.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lt_bench.data.samplers import ClassProbabilitySampler
from lt_bench.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module(name="class_balanced")
class ClassBalancedSampler(ClassProbabilitySampler):
    """p_j = 1 / C, N draws with replacement."""

    def class_probabilities(self, epoch: int) -> NDArray[np.float64]:
        """(C,) the same in every epoch."""
        return np.full(self.num_classes, 1 / self.num_classes)
