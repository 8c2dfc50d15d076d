"""Batch normalisation with the statistics of the global batch, over all ranks.

A rank's share of a batch has other means and variances than the whole of it, so that without this another
number of ranks trains another network. On CUDA this is torch's ``SyncBatchNorm``; that refuses tensors on a
CPU, for which :class:`GlobalBatchNorm` is here. Ioffe and Szegedy, "Batch Normalization", ICML 2015; the
statistics of shares are combined as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
for Computing Sample Variances", 1979.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lt_bench.models.projection import BatchNormOfRows


class GlobalBatchNorm(_BatchNorm):
    """Takes the place of ``BatchNorm1d``, ``2d`` or ``3d``: the same parameters, buffers and names.

    In eval mode it is torch's. In training mode mean and (biased) variance are of all ranks' inputs, which
    may differ in size or be empty, and every rank's running statistics are updated alike, by the unbiased
    variance.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape and dtype."""
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = _Normalised.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                # One value a channel has no unbiased variance: 0 is what it showed.
                self._follow(mean, variance * count / (count - 1).clamp_min(1))
        normalised: Tensor = output
        return normalised

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        share: float | Tensor
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.momentum is not None:
            share = self.momentum
        else:
            assert self.num_batches_tracked is not None
            share = 1 / self.num_batches_tracked.to(torch.float64)
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            running.copy_((1 - share) * running + share * now)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm takes (B, C, ...), got {tuple(input.shape)}")


class _Normalised(torch.autograd.Function):
    """Normalises by the statistics of all ranks; the gradient goes through them, across ranks too."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = input if input.dtype == torch.float64 else input.float()
        over, shape = _axes(x)
        # Of the share: mean and squared deviations; combined in float64, so that no digit is lost.
        rows = x.numel() // x.shape[1]
        mean = x.sum(over) / max(1, rows)
        deviations = (x - mean.view(shape)).square().sum(over)
        count = mean.new_tensor([rows], dtype=torch.float64)
        mine = torch.cat([mean.double(), deviations.double(), count])
        every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(every, mine)
        means, squares, counts = torch.stack(every).split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        joint = (counts * means).sum(0) / total
        variance = (squares + counts * (means - joint).square()).sum(0) / total
        inverse = (variance + eps).rsqrt()
        standard = (x - joint.to(x.dtype).view(shape)) * inverse.to(x.dtype).view(shape)
        output = standard
        if weight is not None:
            output = output * weight.to(x.dtype).view(shape)
        if bias is not None:
            output = output + bias.to(x.dtype).view(shape)
        ctx.save_for_backward(standard, weight, inverse, total)
        ctx.mark_non_differentiable(joint, variance, total)
        return output.to(input.dtype), joint, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        standard, weight, inverse, total = ctx.saved_tensors
        given = gradients[0].to(standard.dtype)
        over, shape = _axes(standard)
        # Of the share alone: whoever averages gradients over ranks does so for these too.
        to_bias = given.sum(over)
        to_weight = (given * standard).sum(over)
        sums = torch.cat([to_bias.double(), to_weight.double()])
        dist.all_reduce(sums)
        level, slope = (part.to(given.dtype).view(shape) for part in (sums / total).chunk(2))
        scale = inverse if weight is None else inverse * weight
        to_input = (given - level - standard * slope) * scale.to(given.dtype).view(shape)
        if weight is None:
            return to_input.to(gradients[0].dtype), None, None, None
        return to_input.to(gradients[0].dtype), to_weight.to(weight.dtype), to_bias.to(weight.dtype), None


def _axes(x: Tensor) -> tuple[list[int], list[int]]:
    """The axes that statistics run over, and the shape in which they lie along ``x``."""
    return [a for a in range(x.dim()) if a != 1], [-1 if a == 1 else 1 for a in range(x.dim())]


def with_global_batch_norm(model: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm of ``model`` take the statistics of the global batch.

    Names, parameters and buffers stay what they were: the model's state loads into one without this. A
    :class:`~lt_bench.models.projection.BatchNormOfRows` is given all ranks' rows and stays what it is.

    Args:
        model: changed in place where it is not itself a batch norm.
        device: what it will run on.

    Returns:
        The model.
    """
    if isinstance(model, BatchNormOfRows):
        return model
    if isinstance(model, _BatchNorm):
        if device.type == "cuda":
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            return converted
        return _global(model)
    for name, child in model.named_children():
        model.add_module(name, with_global_batch_norm(child, device))
    return model


def _global(norm: _BatchNorm) -> GlobalBatchNorm:
    made = GlobalBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    ).train(norm.training)
    # The tensors themselves, so that an optimiser or a copy that holds them goes on with them.
    made._parameters, made._buffers = norm._parameters, norm._buffers
    return made
