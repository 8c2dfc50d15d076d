"""Loaders of a resolved config's data."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size

from lt_bench.data.dataset import LongTailData
from lt_bench.data.loader import build_eval_loader, build_loader
from lt_bench.data.samplers import build_sampler
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS


def build_data(cfg: dict[str, Any]) -> LongTailData:
    """The dataset of a config, checked.

    Raises:
        LTBenchError: missing, truncated or mislabelled data, or a builder that gives something else.
    """
    data = DATASETS.build(dict(cfg))
    if not isinstance(data, LongTailData):
        raise LTBenchError(
            f"dataset {cfg['type']!r} gives {type(data).__name__} and no LongTailData; let it return one"
        )
    return data


def described(data: LongTailData) -> dict[str, Any]:
    """What a run record says of a dataset."""
    return {
        "name": data.name,
        "identity": data.identity,
        "num_classes": data.num_classes,
        "sizes": {
            "train": len(data.train),
            "val": None if data.val is None else len(data.val),
            "test": len(data.test),
        },
        "counts": data.counts.tolist(),
        "facts": data.facts,
    }


def training_loader(
    data: LongTailData,
    config: dict[str, Any],
    sampler: dict[str, Any],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    device: torch.device,
    distributed: bool = True,
) -> Any:
    """Batches of augmented training images, drawn by ``sampler``.

    Args:
        data: the dataset.
        config: the resolved config.
        sampler: config of the sampler.
        batch_size: images a global batch.
        epochs: epochs that will be run.
        seed: of order and augmentation.
        device: where batches are wanted.
        distributed: whether a rank gets only its share.
    """
    built = build_sampler(
        sampler,
        data.train.labels,
        num_classes=data.num_classes,
        batch_size=batch_size,
        seed=seed,
        epochs=epochs,
        rank=get_rank() if distributed else 0,
        world=get_world_size() if distributed else 1,
    )
    return build_loader(
        data.train,
        sampler=built,
        transforms=config["train_transforms"],
        device=device,
        seed=seed,
        channels_last=bool(config["stage1"]["numerics"].get("channels_last", False)),
        workers=config["runtime"]["workers"],
    )


def evaluation_loader(
    data: LongTailData,
    config: dict[str, Any],
    split: str,
    device: torch.device,
    *,
    distributed: bool = False,
) -> Any | None:
    """Batches of a split in order, not augmented; None where the dataset has no such split.

    Args:
        data: the dataset.
        config: the resolved config.
        split: ``"train"``, ``"val"`` or ``"test"``.
        device: where batches are wanted.
        distributed: whether a rank gets only its share.
    """
    part = data.splits().get(split)
    if part is None:
        return None
    share = distributed and get_world_size() > 1 and len(part) >= get_world_size()
    return build_eval_loader(
        part,
        transforms=config["test_transforms"],
        batch_size=config["runtime"]["eval_batch_size"],
        device=device,
        places=torch.arange(get_rank(), len(part), get_world_size()) if share else None,
        channels_last=bool(config["stage1"]["numerics"].get("channels_last", False)),
        workers=config["runtime"]["workers"],
    )
