"""Code from outside of this project that a config's parts are made of, known by the content of its files.

A config says ``dict(type="mine")`` whatever the file beside it holds, so where a part is a person's own, the
sha256 of its file stands beside the config in identities and records. What that file imports does not count.
Of parts of this project and of the libraries that it is built on nothing is added.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.optim import OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS, Registry

from lt_bench.errors import LTBenchError
from lt_bench.registry import ALIGNMENTS, DATA_SAMPLERS, METHODS, MODELS, TRANSFORMS

INSIDE = ("lt_bench", "methods", "torch", "torchvision", "mmengine", "mmpretrain", "mmcv")


def code_of_stage1(config: dict[str, Any]) -> dict[str, str]:
    """What of a stage 1 is made of code from outside.

    Args:
        config: see :func:`lt_bench.config.resolve`.

    Returns:
        Hex sha256 of the file of each such part, by the part's kind and name; empty where there is none.
    """
    representation, stage1 = config["method"]["representation"], config["stage1"]
    method = METHODS.get(representation["type"])
    return {
        **code_of_method(representation),
        **_code(DATA_SAMPLERS, method.sampler),
        **code_of_transforms(config["train_transforms"]),
        **(code_of_transforms(config["test_transforms"]) if method.learns_from_validation else {}),
        **_code(MODELS, config["model"]),
        **_code(OPTIMIZERS, stage1.get("optimizer")),
        **_code(PARAM_SCHEDULERS, stage1.get("schedule")),
    }


def code_of_run(config: dict[str, Any]) -> dict[str, str]:
    """What of a run is made of code from outside, as :func:`code_of_stage1` gives it."""
    return {
        **code_of_stage1(config),
        **code_of_method(config["method"]["classifier"]),
        **code_of_method(config["method"]["prediction"]),
        **code_of_transforms(config["test_transforms"]),
    }


def code_of_method(given: dict[str, Any]) -> dict[str, str]:
    """What of one seam is made of code from outside: the method, its sampler, its alignment."""
    return {
        **_code(METHODS, {"type": given["type"]}),
        **_code(DATA_SAMPLERS, given.get("sampler")),
        **_code(ALIGNMENTS, {"type": given.get("alignment")}),
    }


def code_of_transforms(given: Any) -> dict[str, str]:
    """What of a list of transforms is code from outside."""
    return _code(TRANSFORMS, given)


def _code(registry: Registry, given: Any) -> dict[str, str]:
    found = {}
    for name in _types(given):
        digest = _digest(_part(registry, name))
        if digest is not None:
            found[f"{registry.name} {name}"] = digest
    return found


def _part(registry: Registry, name: str) -> Any:
    """What a name stands for; None where it is of another registry: a layer's in a backbone, say."""
    part = registry.module_dict.get(name) or (registry.parent and registry.parent.module_dict.get(name))
    if part is None and "." in name:  # scope.name or module.Class, which a registry takes, too
        try:
            part = registry.get(name)
        except LTBenchError:
            return None
    return part


def _types(given: Any) -> Iterator[str]:
    """Every ``type`` in nested dicts and lists."""
    if isinstance(given, dict):
        if isinstance(given.get("type"), str):
            yield given["type"]
        given = list(given.values())
    for item in given if isinstance(given, (list, tuple)) else ():
        yield from _types(item)


@cache
def _digest(part: Any) -> str | None:
    """Of its file as it was when first asked for: while a run trains, the file may be edited."""
    if part is None or str(getattr(part, "__module__", "")).partition(".")[0] in INSIDE:
        return None
    try:
        file = inspect.getsourcefile(part)
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    except (TypeError, OSError):  # a class of a notebook has no file
        return None
