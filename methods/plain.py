"""Plain training: cross-entropy, image-balanced sampling, end to end.

On CIFAR-100-LT (IF 100, ResNet-32, bf16) it gives 39.0 (three seeds, 38.5 to 39.4). Published figures of
recipes near this one lie between BagofTricks-LT's 37.73 (Nesterov momentum, another warm-up, the best of all
epochs) and 39.1 in RIDE's model zoo (whose images are rotated, too), group by group 66.1/37.3/10.6 there and
66.6/37.7/8.4 here.
"""

from __future__ import annotations

from lt_bench.method import Representation
from lt_bench.registry import METHODS


@METHODS.register_module("plain")
class Plain(Representation):
    """L = -log softmax(z)_y, mean over the batch."""
