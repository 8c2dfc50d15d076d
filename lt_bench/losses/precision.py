"""In which precision a loss is computed."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """bfloat16 and float16 as float32, wider floats as they are.

    Logarithms and sums over classes lose too much in half precision, and a check of gradients wants to
    stay in float64.

    Args:
        tensor: any shape, floating point.

    Returns:
        The same values, float32 or float64; ``tensor`` itself where it is that already.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
