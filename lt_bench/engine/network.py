"""Whether a network takes a dataset's images, seen before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor

from lt_bench.data.dataset import LongTailData
from lt_bench.data.loader import build_eval_loader
from lt_bench.data.samplers import build_sampler
from lt_bench.engine.stage1 import build_representation, feature_dim
from lt_bench.errors import LTBenchError
from lt_bench.models.stage_one import build_backbone
from lt_bench.task import Task


def ends_in_one_image(config: dict[str, Any], task: Task, data: LongTailData) -> bool:
    """Whether batch norm sees batches of one image, in one view, in stage 1 of a resolved config."""
    settings = config["stage1"]
    # Otherwise its statistics are those of all processes.
    world = get_world_size() if settings["numerics"].get("batch_norm") == "rank" else 1
    drawn_by = build_representation(config, task).sampler
    samplers = [
        build_sampler(
            dict(drawn_by),
            data.train.labels,
            num_classes=data.num_classes,
            batch_size=settings["batch_size"],
            seed=0,
            epochs=settings["epochs"],
            rank=rank,
            world=world,
        )
        for rank in range(world)
    ]
    views = any(transform["type"] == "batch_views" for transform in config["train_transforms"])
    return any(1 in sampler.rank_sizes() for sampler in samplers) and not views


def check_network(config: dict[str, Any], data: LongTailData, *, single: bool) -> None:
    """Show two test images to the untrained backbone of a resolved config, on the CPU.

    Args:
        config: see :func:`lt_bench.config.resolve`.
        data: the dataset.
        single: see :func:`ends_in_one_image`.

    Raises:
        LTBenchError: the transforms of evaluation do not build or do not take the images, the backbone does
            not take them or ends in another number of channels than is stated, or it cannot be trained on
            one image.
    """
    model, kind = config["model"], config["model"]["backbone"]["type"]
    # Initial weights are drawn from the global generator.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        backbone = build_backbone(dict(model["backbone"]))
        backbone.eval()
        places = torch.arange(min(2, len(data.test)))
        transforms = config["test_transforms"]
        loader = build_eval_loader(
            data.test, transforms=transforms, batch_size=2, device="cpu", places=places
        )
        images = next(iter(loader)).images
        try:
            out = backbone(images)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise LTBenchError(
                f"model.backbone of type {kind!r} does not take images of shape {tuple(images.shape[1:])}: "
                f"{' '.join(str(error).split())[:200]}; set its in_channels, change test_transforms, or give "
                "another backbone"
            ) from error
        last = out[-1] if isinstance(out, (tuple, list)) else out
        shape = tuple(last.shape) if isinstance(last, Tensor) else type(last).__name__
        dim = feature_dim(model, backbone)
        if not isinstance(last, Tensor) or last.dim() not in (2, 4) or last.shape[1] != dim:
            raise LTBenchError(
                f"model.backbone of type {kind!r} gives {shape} for two images, expected is (2, {dim}) or "
                f"(2, {dim}, height, width); set model.feature_dim to the channels that it ends in"
            )
        if single:
            backbone.train()
            try:
                backbone(images[:1])
            except ValueError as error:
                batch = config["stage1"]["batch_size"]
                raise LTBenchError(
                    f"{len(data.train)} training images in batches of {batch} end in one image, of which "
                    f"{kind}'s batch norm (of a process) has no variance; set another stage1.batch_size"
                ) from error
