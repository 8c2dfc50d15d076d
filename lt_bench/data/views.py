"""Several augmented views of every image of a batch, for contrastive losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lt_bench.data.batch_transforms import BatchTransform, build_batch_transforms
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS


@TRANSFORMS.register_module(name="batch_views")
class BatchViews(BatchTransform):
    """Apply several lists of batch transforms to the same images, each list giving one view.

    It stands last in a pipeline of training; transforms in front of it are common to all views. In a
    pipeline over image files the transforms of single images are in front, so they are common to all views.
    A classifier of stage 2 that trains on augmented images sees the first view alone.

    Args:
        views: a list of transform dicts for each view, V of them; each list ends in ``batch_normalize``.

    Raises:
        LTBenchError: no view, a view that is no list of transforms, or one that holds ``batch_views``.
    """

    random = True
    final = True

    def __init__(self, views: Sequence[Sequence[dict[str, Any]]]) -> None:
        if not isinstance(views, (list, tuple)) or not views:
            raise LTBenchError(
                f"batch_views: views is a list with one list of transforms a view, got {views!r}"
            )
        for view in views:
            if not isinstance(view, (list, tuple)):
                raise LTBenchError(f"batch_views: a view is a list of transform dicts, got {view!r}")
        self.views = [build_batch_transforms(view) for view in views]
        if any(transform.final for view in self.views for transform in view):
            raise LTBenchError(
                "batch_views: a view cannot hold batch_views itself; list its transforms instead"
            )

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The views of each image.

        Args:
            images: (B, C, H, W), usually uint8; left as they are.
            generator: of the images' device; the views draw from it one after the other.

        Returns:
            (B, V, C, H, W) float32, contiguous.

        Raises:
            LTBenchError: a view is not float32, or views differ in shape.
        """
        made: list[Tensor] = []
        for number, transforms in enumerate(self.views, 1):
            view = images
            for transform in transforms:
                view = transform(view, generator)
            if view.dtype != torch.float32:
                raise LTBenchError(
                    f"batch_views: view {number} is left as {view.dtype}, a network needs float32; "
                    "end its list with dict(type='batch_normalize', mean=[...], std=[...])"
                )
            if made and view.shape != made[0].shape:
                raise LTBenchError(
                    f"batch_views: view {number} has the shape {tuple(view.shape)}, view 1 "
                    f"{tuple(made[0].shape)}; give all views one size"
                )
            made.append(view)
        return torch.stack(made, dim=1)
