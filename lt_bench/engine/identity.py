"""The identity of a stage 1: a hash of all that decides its weights.

Two experiments with the same identity share one training. The label of the recipe, what is kept of the
snapshots, the place of the data and everything under ``runtime`` do not change the weights and do not
count. Of pretrained weights the content counts and not the place, of parts from outside of this project the
content of their files (:mod:`lt_bench.engine.outside_code`). Other fields are hashed as the config gives
them: a default that a later version adds changes no hash.
"""

from __future__ import annotations

from typing import Any

from lt_bench.config import digest
from lt_bench.data.dataset import LongTailData
from lt_bench.engine.outside_code import code_of_stage1
from lt_bench.models.pretrained import by_content
from lt_bench.registry import METHODS


def data_of_stage1(config: dict[str, Any], data: LongTailData) -> str:
    """Of the data what decides stage 1: the training split, and what else its representation learns from.

    Args:
        config: see :func:`lt_bench.config.resolve`.
        data: the dataset.

    Returns:
        Hex sha256.
    """
    if not METHODS.get(config["method"]["representation"]["type"]).learns_from_validation:
        return data.train_identity
    # Validation images are seen through the transforms of evaluation.
    return digest([data.train_identity, data.val_identity, config["test_transforms"]])


def stage1_identity(config: dict[str, Any], data_identity: str, seed: int) -> str:
    """The identity of the stage 1 of a resolved config.

    Args:
        config: see :func:`lt_bench.config.resolve`.
        data_identity: see :func:`data_of_stage1`.
        seed: the run's seed.

    Returns:
        16 hex digits.

    Raises:
        LTBenchError: the config names pretrained weights that are not there.
    """
    stage1 = {key: value for key, value in config["stage1"].items() if key != "recipe"}
    parts: dict[str, Any] = {
        "data": data_identity,
        "train_transforms": config["train_transforms"],
        "model": by_content(config["model"]),
        "representation": config["method"]["representation"],
        "stage1": stage1,
        "seed": seed,
    }
    if code := code_of_stage1(config):
        parts["code"] = code
    return digest(parts)[:16]
