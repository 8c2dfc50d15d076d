"""A config resolved: its keys checked against what an experiment has, every default written out.

The top-level keys are those of :data:`KEYS`; a misspelt one is refused here and not ignored.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import torch
from mmengine.optim import OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS, VISBACKENDS, VISUALIZERS, Registry

from lt_bench.arguments import is_whole
from lt_bench.config.composition import SEAMS
from lt_bench.config.signatures import check_arguments, parameters_of, refuse_unknown
from lt_bench.errors import LTBenchError, near_names
from lt_bench.models.stage_one import Numerics
from lt_bench.registry import DATA_SAMPLERS, DATASETS, METHODS, TRANSFORMS
from lt_bench.snapshots.hook import CAPTURES

KEYS: dict[str, str] = {
    "dataset": "the dataset, a dict with a type of DATASETS",
    "convention": "how shot groups are cut: paper, strict or inclusive",
    "train_transforms": "transforms of training batches, a list of dicts",
    "test_transforms": "transforms of evaluation batches, a list of dicts",
    "model": "dict(backbone=dict(type=...), feature_dim=...)",
    "stage1": "epochs, batch_size, optimizer, schedule, numerics and recipe of stage 1",
    "classifier_recipe": "the recipe of stage 2 where the classifier does not give its own",
    "snapshots": "keep ('all' or a number of epochs), dtype, capture",
    "method": "label, representation, classifier, prediction",
    "runtime": "workers, evaluation batch, intervals, visualizer: nothing that changes a result",
}
# What the harness gives every sampler.
SAMPLER_SUPPLIED = ("labels", "num_classes", "batch_size", "seed", "epochs", "rank", "world")
STAGE1_KEYS = ("epochs", "batch_size", "optimizer", "schedule", "numerics", "recipe", "clip_grad")
MODEL_KEYS = ("backbone", "feature_dim")
METHOD_KEYS = ("label", *SEAMS)
NUMERICS = tuple(field.name for field in fields(Numerics))
LISTS = ("train_transforms", "test_transforms")
# Whole numbers of ``runtime`` and the least they may be.
RUNTIME_LEAST = {
    "workers": 0,
    "eval_batch_size": 1,
    "checkpoint_interval": 1,
    "log_interval": 1,
    "val_interval": 0,
}
# What a tracker of MMEngine's imports, and what installs it.
TRACKERS = {
    "TensorboardVisBackend": ("tensorboard", "tensorboard"),
    "MLflowVisBackend": ("mlflow", "'lt-bench[trackers]'"),
    "WandbVisBackend": ("wandb", "'lt-bench[trackers]'"),
}
DTYPES = ("float32", "float16", "bfloat16")
DEFAULTS: dict[str, Any] = {
    "convention": "strict",
    "classifier_recipe": {},
    "snapshots": {"keep": 0, "dtype": "float32", "capture": "training_forward"},
    "runtime": {
        "workers": 4,
        "eval_batch_size": 500,
        "checkpoint_interval": 10,
        "log_interval": 50,
        "val_interval": 0,
        "visualizer": {
            "type": "Visualizer",
            "vis_backends": [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}],
        },
    },
}


def resolve(given: Mapping[str, Any]) -> dict[str, Any]:
    """A config with every default written out.

    Raises:
        LTBenchError: unknown keys, an unknown method or arguments it does not take, values that are none of
            what their key takes.
    """
    cfg: dict[str, Any] = copy.deepcopy(dict(given))
    refuse_unknown("config", cfg, KEYS)
    for key in ("dataset", "train_transforms", "test_transforms", "model", "stage1", "method"):
        if key not in cfg:
            raise LTBenchError(f"the config lacks {key!r}: {KEYS[key]}")
    for key, value in cfg.items():
        expected = str if key == "convention" else list if key in LISTS else dict
        if not isinstance(value, expected):
            raise LTBenchError(f"{key} is a {expected.__name__} ({KEYS[key]}); got {value!r}")
    _write_out_defaults(cfg)
    for name, known in (
        ("stage1", STAGE1_KEYS),
        ("model", MODEL_KEYS),
        ("snapshots", DEFAULTS["snapshots"]),
        ("method", METHOD_KEYS),
        ("runtime", DEFAULTS["runtime"]),
    ):
        refuse_unknown(name, cfg[name], known)
    _resolve_stage1(cfg["stage1"])
    _check_transforms(cfg)
    _check_snapshots(cfg["snapshots"])
    _check_runtime(cfg["runtime"])
    _check_model(cfg["model"])
    check_arguments(DATASETS.get(cfg["dataset"].get("type")), cfg["dataset"], "dataset")
    method = cfg["method"]
    if not isinstance(method.get("label", ""), str):
        raise LTBenchError(f"method.label is the method's name in a table, got {method['label']!r}")
    for seam in SEAMS:
        _resolve_method(seam, method[seam], cfg["classifier_recipe"])
    return cfg


def _write_out_defaults(cfg: dict[str, Any]) -> None:
    for key, default in DEFAULTS.items():
        if isinstance(default, dict):
            cfg[key] = {**copy.deepcopy(default), **cfg.get(key, {})}
        else:
            cfg.setdefault(key, default)
    for seam, default in SEAMS.items():
        cfg["method"].setdefault(seam, dict(default))


def _resolve_stage1(stage1: dict[str, Any]) -> None:
    for key in ("epochs", "batch_size", "optimizer"):
        if key not in stage1:
            raise LTBenchError(f"the config lacks stage1.{key}")
    for key in ("epochs", "batch_size"):
        if not is_whole(stage1[key], 1):
            raise LTBenchError(f"stage1.{key} is a whole number from 1, got {stage1[key]!r}")
    stage1.setdefault("schedule", [])
    _check_optimisation(stage1)
    numerics = stage1.setdefault("numerics", {})
    if not isinstance(numerics, dict):
        raise LTBenchError(f"stage1.numerics is a dict with {', '.join(NUMERICS)}; got {numerics!r}")
    refuse_unknown("stage1.numerics", numerics, NUMERICS)
    recipe = stage1.setdefault("recipe", {"name": "own", "epochs": stage1["epochs"]})
    if not isinstance(recipe, dict) or set(recipe) != {"name", "epochs"}:
        raise LTBenchError(
            f"stage1.recipe is dict(name=..., epochs=...), what the full schedule is; got {recipe!r}"
        )
    if not isinstance(recipe["name"], str) or not is_whole(recipe["epochs"], 1):
        raise LTBenchError(f"stage1.recipe has a name and a whole number of epochs from 1; got {recipe!r}")


def _check_transforms(cfg: Mapping[str, Any]) -> None:
    for key in LISTS:
        for index, transform in enumerate(cfg[key]):
            if not isinstance(transform, dict) or "type" not in transform:
                raise LTBenchError(f"{key}[{index}] is a dict with a 'type', got {transform!r}")
            # Of a transform of single images, the loader of files knows where to look.
            if transform["type"] in TRANSFORMS.names():
                check_arguments(TRANSFORMS.get(transform["type"]), transform, f"{key}[{index}]")


def _check_model(model: Mapping[str, Any]) -> None:
    if not isinstance(model.get("backbone"), dict):
        raise LTBenchError(f"model.backbone is a dict with a 'type', got {model.get('backbone')!r}")
    dim = model.get("feature_dim")
    if dim is not None and not is_whole(dim, 1):
        raise LTBenchError(f"model.feature_dim is a whole number from 1, got {dim!r}")


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved config with some values replaced, resolved again.

    Args:
        config: see :func:`resolve`.
        changes: new values by dotted key.
    """
    copied = copy.deepcopy(dict(config))
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = copied
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = copy.deepcopy(value)
    return resolve(copied)


def _check_optimisation(stage1: dict[str, Any]) -> None:
    """Build optimiser and schedule once for a weight that does not matter, and see what they say."""
    if not isinstance(stage1["schedule"], list):
        raise LTBenchError(f"stage1.schedule is a list of dicts, got {stage1['schedule']!r}")
    if not isinstance(stage1.get("clip_grad") or {}, dict):
        raise LTBenchError(
            f"stage1.clip_grad is a dict such as dict(max_norm=1), got {stage1['clip_grad']!r}"
        )
    _check_clipping(stage1.get("clip_grad") or {})
    where, optimizer = "stage1.optimizer", None
    target = _check_part(OPTIMIZERS, stage1["optimizer"], where, "params")
    parts = [(where, target, stage1["optimizer"])]
    for index, entry in enumerate(stage1["schedule"]):
        where = f"stage1.schedule[{index}]"
        target = _check_part(PARAM_SCHEDULERS, entry, where, "optimizer", "param_name")
        parts.append((where, target, entry))
    for where, target, entry in parts:
        steps = entry.get("milestones", [])
        # One that no epoch equals would be passed over in silence.
        if not isinstance(steps, (list, tuple)) or not all(is_whole(step, 0) for step in steps):
            raise LTBenchError(f"{where}.milestones is a list of whole numbers, got {steps!r}")
        given = {k: v for k, v in entry.items() if k not in ("type", "convert_to_iter_based")}
        if optimizer is not None and entry.get("by_epoch", True) and "end" in (parameters_of(target) or {}):
            # As the runner does: a schedule without an end has the training's.
            given.setdefault("end", stage1["epochs"])
        try:
            if entry.get("convert_to_iter_based") and not entry.get("by_epoch", True):
                raise ValueError("convert_to_iter_based is for by_epoch=True")
            if optimizer is None:
                optimizer = target([torch.nn.Parameter(torch.zeros(1))], **given)
            else:
                target(optimizer, **given)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise LTBenchError(f"{where} of type {entry['type']!r} does not build: {error}") from error


def _check_clipping(clip: dict[str, Any]) -> None:
    """Clip a gradient that does not matter, and see what is said."""
    if not clip:
        return
    kinds: dict[str, Callable[..., Any]] = {
        "norm": torch.nn.utils.clip_grad_norm_,
        "value": torch.nn.utils.clip_grad_value_,
    }
    kind = clip.get("type", "norm")
    if kind not in tuple(kinds):
        raise LTBenchError(f"stage1.clip_grad.type is one of {', '.join(kinds)}; got {kind!r}")
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    try:
        kinds[kind]([weight], **{key: value for key, value in clip.items() if key != "type"})
    except (TypeError, ValueError, RuntimeError) as error:
        raise LTBenchError(f"stage1.clip_grad does not clip: {error}") from error


def _check_snapshots(settings: dict[str, Any]) -> None:
    if settings["capture"] is None:  # "none" of a command line
        settings["capture"] = "none"
    for key, known in (("dtype", DTYPES), ("capture", CAPTURES)):
        if settings[key] not in known:
            raise LTBenchError(f"snapshots.{key} is one of {', '.join(known)}; got {settings[key]!r}")
    keep = settings["keep"]
    if keep != "all" and not is_whole(keep, 0):
        raise LTBenchError(f"snapshots.keep is 'all' or a number of epochs from 0, got {keep!r}")


def _check_runtime(runtime: dict[str, Any]) -> None:
    for key, least in RUNTIME_LEAST.items():
        if not is_whole(runtime[key], least):
            raise LTBenchError(f"runtime.{key} is a whole number from {least}, got {runtime[key]!r}")
    visualizer = runtime["visualizer"]
    if not isinstance(visualizer, dict):
        raise LTBenchError(f"runtime.visualizer is a dict with a 'type', got {visualizer!r}")
    _check_part(VISUALIZERS, visualizer, "runtime.visualizer")
    backends = visualizer.get("vis_backends") or []
    if not isinstance(backends, (list, tuple)):
        raise LTBenchError(f"runtime.visualizer.vis_backends is a list of dicts, got {backends!r}")
    for index, backend in enumerate(backends):
        where = f"runtime.visualizer.vis_backends[{index}]"
        _check_part(VISBACKENDS, backend, where, "save_dir")
        module, install = TRACKERS.get(backend["type"], ("", ""))
        if module and find_spec(module) is None:
            raise LTBenchError(
                f"{where} is a {backend['type']}, which needs {module}; pip install {install}, or take it out"
            )


def _resolve_method(seam: str, given: dict[str, Any], recipe: Mapping[str, Any]) -> None:
    if not isinstance(given, dict) or "type" not in given:
        raise LTBenchError(f"method.{seam} is a dict with a 'type', got {given!r}")
    cls = METHODS.get(given["type"])
    if cls.seam != seam:
        fitting = [n for n in METHODS.names() if METHODS.get(n).seam == seam]
        raise LTBenchError(
            f"method.{seam} is {given['type']!r}, which is a {cls.seam}; "
            f"a {seam} is one of {', '.join(fitting)}"
        )
    if "recipe" in inspect.signature(cls).parameters:
        if not isinstance(given.get("recipe") or {}, dict):
            raise LTBenchError(f"method.{seam}.recipe is a dict, got {given['recipe']!r}")
        given["recipe"] = {**recipe, **cls.recipe_defaults, **(given.get("recipe") or {})}
    # The harness itself gives any representation the sampler that a config names.
    own = {k: v for k, v in given.items() if seam != "representation" or k != "sampler"}
    check_arguments(cls, own, f"method.{seam}", "task")
    if given.get("sampler") is not None:
        if not isinstance(given["sampler"], dict):
            raise LTBenchError(f"method.{seam}.sampler is a dict with a 'type', got {given['sampler']!r}")
        sampler = DATA_SAMPLERS.get(str(given["sampler"].get("type")))
        check_arguments(sampler, given["sampler"], f"method.{seam}.sampler", *SAMPLER_SUPPLIED)


def _check_part(registry: Registry, cfg: Any, where: str, *supplied: str) -> Any:
    """Check one of MMEngine's own parts before anything is trained with it."""
    if not isinstance(cfg, dict) or "type" not in cfg:
        raise LTBenchError(f"{where} is a dict with a 'type', got {cfg!r}")
    name = cfg["type"]
    try:
        target = registry.get(name) if isinstance(name, str) else None
    except (RuntimeError, TypeError, ValueError):
        # MMEngine's get imports what may be the name of a module, which can fail.
        target = None
    # A module that it found is no part.
    if not isinstance(target, type):
        raise LTBenchError(f"unknown {registry.name} {name!r}: {near_names(str(name), registry.module_dict)}")
    # The runner itself takes this key of a schedule.
    given = {key: value for key, value in cfg.items() if key != "convert_to_iter_based"}
    check_arguments(target, given, where, *supplied)
    return target
