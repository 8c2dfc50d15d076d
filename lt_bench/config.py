"""Configs: found by name or path, read by MMEngine, checked against what an experiment has.

An experiment's config is MMEngine's (Python, ``_base_`` inheritance). Its top-level keys are those of
:data:`KEYS`; a misspelt one is refused here and not ignored. ``folder/one+two`` names one that is composed
(:mod:`lt_bench.composition`).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import torch
from mmengine.optim import OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS, VISBACKENDS, VISUALIZERS, Registry

from lt_bench.arguments import is_whole
from lt_bench.composition import JOIN, SEAMS, Part, compose, part_names
from lt_bench.config_folders import config_folders, find_config, locate
from lt_bench.config_reading import merged, read_config
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


@dataclass(frozen=True)
class Experiment:
    """One resolved config.

    Attributes:
        name: ``<folder>/<file>`` of the config, e.g. ``digits_lt/crt``; ``<folder>/<file>+<file>`` of a
            composed one.
        config: the resolved config as plain dicts, lists, numbers and strings.
    """

    name: str
    config: dict[str, Any]

    @property
    def label(self) -> str:
        """The method's name in a table."""
        return str(self.config["method"].get("label", self.name.rpartition("/")[2]))


def digest(value: Any) -> str:
    """Hex sha256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def portable_dataset(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset's config without where it lies on this disk; its content has an identity of its own.

    Of files that are named by a path, such as a list of images, the file's name stays.
    """
    places = ("root", "path", "lists", "annotations", "download")
    kept = {key: value for key, value in cfg.items() if key not in places}
    return {key: _file_name(value) for key, value in kept.items()}


def _file_name(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and os.sep in value else value


def import_plugins(modules: Sequence[str] = ()) -> None:
    """Import methods from outside: entry points of the group ``lt_bench.methods``, then ``modules``.

    Raises:
        LTBenchError: one cannot be imported.
    """
    for point in entry_points(group="lt_bench.methods"):
        try:
            point.load()
        except Exception as error:
            raise LTBenchError(
                f"the installed method plug-in {point.name!r} ({point.value}) cannot be imported: "
                f"{error}; repair or uninstall it"
            ) from error
    for module in modules:
        try:
            import_module(module)
        except LTBenchError:
            raise
        except Exception as error:
            raise LTBenchError(
                f"custom_imports names {module!r}, which cannot be imported "
                f"({type(error).__name__}: {error}); "
                "give a module on PYTHONPATH or beside the config"
            ) from error


def load_experiment(name: str, options: Mapping[str, Any] | None = None) -> Experiment:
    """Read, merge and check one config, or compose one of several.

    Args:
        name: a path, a config's name, or several of one folder joined by ``+`` (``digits_lt/ldam+crt``).
        options: dotted keys and their new values, as ``--cfg-options`` gives them; of a composed config
            they change what it is composed to.

    Raises:
        LTBenchError: no such config, a file that does not read, unknown keys, an unknown method or
            arguments it does not take, parts that do not go together.
    """
    names = [name] if locate(name) else part_names(name)
    files = [find_config(part) for part in names]
    read = [read_config(file.path, file.changes) for file in files]
    given = read[0]
    if len(read) > 1:
        imports = [module for part in read for module in _imports(part.pop("custom_imports", None))]
        common = {"convention": DEFAULTS["convention"]}
        given = compose([Part(n, {**common, **part}) for n, part in zip(names, read, strict=True)])
        given["custom_imports"] = imports
    given = merged(given, options or {}, name)
    _import_beside([file.path for file in files], _imports(given.pop("custom_imports", None)))
    folder = files[0].name.partition("/")[0]
    stems = JOIN.join(file.name.partition("/")[2] for file in files)
    return Experiment(f"{folder}/{stems}", resolve(given))


def _imports(given: Any) -> list[str]:
    """The modules that ``custom_imports`` names."""
    modules = given.get("imports", []) if isinstance(given, dict) else given or []
    modules = [modules] if isinstance(modules, str) else modules
    if not isinstance(modules, (list, tuple)) or not all(isinstance(module, str) for module in modules):
        raise LTBenchError(f"custom_imports names modules, as in dict(imports=['mine']); got {given!r}")
    return list(modules)


def load_dataset(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The dataset config of a name such as ``cifar100_lt``, or of a path.

    Returns:
        ``dataset`` and ``convention``.

    Raises:
        LTBenchError: there is none, or it has keys that no config or its dataset takes.
    """
    path = Path(name)
    if not path.is_file():
        bases = {
            found.stem: found
            for folder in reversed(config_folders())
            for found in (folder / "_base_" / "datasets").glob("*.py")
        }
        if name not in bases:
            raise LTBenchError(f"there is no dataset config {name!r}: {near_names(name, bases)}")
        path = bases[name]
    given = merged(read_config(path), options, path)
    _import_beside([path], _imports(given.pop("custom_imports", None)))
    _refuse_unknown(f"dataset config {name}", given, KEYS)
    if not isinstance(given.get("dataset"), dict):
        raise LTBenchError(f"{path} has no 'dataset': {KEYS['dataset']}")
    check_arguments(DATASETS.get(given["dataset"].get("type")), given["dataset"], "dataset")
    return {
        "dataset": given["dataset"],
        "convention": given.get("convention", DEFAULTS["convention"]),
    }


def _import_beside(paths: Sequence[Path], modules: Sequence[str]) -> None:
    folders = [str(path.resolve().parent) for path in paths]
    if modules:
        # An own folder called methods is not to stand for this project's.
        METHODS.names()
    for module in modules:
        _refuse_taken(module, folders)
    sys.path[:0] = folders
    try:
        import_plugins(modules)
    finally:
        for folder in folders:
            sys.path.remove(folder)


def _refuse_taken(module: str, folders: Sequence[str]) -> None:
    """Refuse a module in ``folders`` whose name is another one's here: Python would take that one."""
    top = module.partition(".")[0]
    beside, known = PathFinder.find_spec(top, folders), sys.modules.get(top)
    if beside is None or known is None:
        return
    wanted = [path for path in beside.submodule_search_locations or [beside.origin or ""] if path]
    taken = [path for path in getattr(known, "__path__", None) or [getattr(known, "__file__", None)] if path]
    if not {*map(os.path.realpath, wanted)} <= {*map(os.path.realpath, taken)}:
        raise LTBenchError(
            f"custom_imports names {module!r}, but {top!r} is {known!r} already and not {wanted[0]}; "
            "give what lies beside the config another name"
        )


def resolve(given: Mapping[str, Any]) -> dict[str, Any]:
    """A config with every default written out.

    Raises:
        LTBenchError: see :func:`load_experiment`.
    """
    cfg: dict[str, Any] = copy.deepcopy(dict(given))
    _refuse_unknown("config", cfg, KEYS)
    for key in ("dataset", "train_transforms", "test_transforms", "model", "stage1", "method"):
        if key not in cfg:
            raise LTBenchError(f"the config lacks {key!r}: {KEYS[key]}")
    for key, value in cfg.items():
        expected = str if key == "convention" else list if key in LISTS else dict
        if not isinstance(value, expected):
            raise LTBenchError(f"{key} is a {expected.__name__} ({KEYS[key]}); got {value!r}")
    for key, default in DEFAULTS.items():
        if isinstance(default, dict):
            cfg[key] = {**copy.deepcopy(default), **cfg.get(key, {})}
        else:
            cfg.setdefault(key, default)
    method = cfg["method"]
    for seam, default in SEAMS.items():
        method.setdefault(seam, dict(default))
    for name, known in (
        ("stage1", STAGE1_KEYS),
        ("model", MODEL_KEYS),
        ("snapshots", DEFAULTS["snapshots"]),
        ("method", METHOD_KEYS),
        ("runtime", DEFAULTS["runtime"]),
    ):
        _refuse_unknown(name, cfg[name], known)
    for key in ("epochs", "batch_size", "optimizer"):
        if key not in cfg["stage1"]:
            raise LTBenchError(f"the config lacks stage1.{key}")
    for key in ("epochs", "batch_size"):
        value = cfg["stage1"][key]
        if not is_whole(value, 1):
            raise LTBenchError(f"stage1.{key} is a whole number from 1, got {value!r}")
    cfg["stage1"].setdefault("schedule", [])
    _check_optimisation(cfg["stage1"])
    numerics = cfg["stage1"].setdefault("numerics", {})
    if not isinstance(numerics, dict):
        raise LTBenchError(f"stage1.numerics is a dict with {', '.join(NUMERICS)}; got {numerics!r}")
    _refuse_unknown("stage1.numerics", numerics, NUMERICS)
    recipe = cfg["stage1"].setdefault("recipe", {"name": "own", "epochs": cfg["stage1"]["epochs"]})
    if not isinstance(recipe, dict) or set(recipe) != {"name", "epochs"}:
        raise LTBenchError(
            f"stage1.recipe is dict(name=..., epochs=...), what the full schedule is; got {recipe!r}"
        )
    if not isinstance(recipe["name"], str) or not is_whole(recipe["epochs"], 1):
        raise LTBenchError(f"stage1.recipe has a name and a whole number of epochs from 1; got {recipe!r}")
    for key in LISTS:
        for index, transform in enumerate(cfg[key]):
            if not isinstance(transform, dict) or "type" not in transform:
                raise LTBenchError(f"{key}[{index}] is a dict with a 'type', got {transform!r}")
            # Of a transform of single images, the loader of files knows where to look.
            if transform["type"] in TRANSFORMS.names():
                check_arguments(TRANSFORMS.get(transform["type"]), transform, f"{key}[{index}]")
    _check_snapshots(cfg["snapshots"])
    _check_runtime(cfg["runtime"])
    if not isinstance(cfg["model"].get("backbone"), dict):
        raise LTBenchError(f"model.backbone is a dict with a 'type', got {cfg['model'].get('backbone')!r}")
    dim = cfg["model"].get("feature_dim")
    if dim is not None and not is_whole(dim, 1):
        raise LTBenchError(f"model.feature_dim is a whole number from 1, got {dim!r}")
    check_arguments(DATASETS.get(cfg["dataset"].get("type")), cfg["dataset"], "dataset")
    if not isinstance(method.get("label", ""), str):
        raise LTBenchError(f"method.label is the method's name in a table, got {method['label']!r}")
    for seam in SEAMS:
        _resolve_method(seam, method[seam], cfg["classifier_recipe"])
    return cfg


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
        if optimizer is not None and entry.get("by_epoch", True) and "end" in (_parameters(target) or {}):
            # As the runner does: a schedule without an end has the training's.
            given.setdefault("end", stage1["epochs"])
        try:
            if entry.get("convert_to_iter_based") and not entry.get("by_epoch", True):
                raise ValueError("convert_to_iter_based is for by_epoch=True")
            if optimizer is None:
                optimizer = target([torch.nn.Parameter(torch.zeros(1))], **given)
            else:
                target(optimizer, **given)
        except (TypeError, ValueError, AssertionError) as error:
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


def check_arguments(target: Any, cfg: Mapping[str, Any], where: str, *supplied: str) -> None:
    """Refuse keys of ``cfg`` that ``target`` does not take.

    Args:
        target: a class or function. A constructor that hands ``**kwargs`` on takes what its bases take.
        cfg: its config, with ``type``.
        where: the config's place, for the sentence.
        *supplied: arguments that the harness gives.

    Raises:
        LTBenchError: an unknown key, or one that is required and missing.
    """
    parameters = _parameters(target)
    if parameters is None:
        return
    known = [name for name in parameters if name not in supplied]
    for key in cfg:
        if key != "type" and key not in known:
            raise LTBenchError(
                f"unknown key {where}.{key}: {near_names(key, known)} (where a base sets it, _delete_=True "
                f"in {where} leaves out what the base has)"
            )
    for name in known:
        if parameters[name].default is inspect.Parameter.empty and name not in cfg:
            raise LTBenchError(f"{where} of type {cfg['type']!r} needs {name!r}")
        if name in cfg and not _fits(cfg[name], parameters[name].annotation):
            raise LTBenchError(
                f"{where}.{name} is {_in_words(parameters[name].annotation)}, got {cfg[name]!r}"
            )


# What a config's value may be for a parameter of that type; other types are the callable's to check.
_PLAIN_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    list: (list,),
    dict: (dict,),
    type(None): (type(None),),
    os.PathLike: (str,),
}


def _alternatives(annotation: Any) -> list[Any]:
    """The types that an annotation allows: two of ``int | None``, one of ``list[str]``, itself else."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [plain for part in get_args(annotation) for plain in _alternatives(part)]
    return [get_origin(annotation) or annotation]


def _fits(value: Any, annotation: Any) -> bool:
    allowed = _alternatives(annotation)
    if not all(kind in _PLAIN_TYPES for kind in allowed):
        return True
    # True and False are ints to Python, to a person they are not.
    return any(
        isinstance(value, _PLAIN_TYPES[kind]) and (isinstance(value, bool) <= (kind is bool))
        for kind in allowed
    )


def _in_words(annotation: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
    names |= {list: "a list", dict: "a dict", type(None): "None", os.PathLike: "a path (./7, not 7)"}
    return " or ".join(names[kind] for kind in _alternatives(annotation))


def _parameters(target: Any) -> dict[str, inspect.Parameter] | None:
    """Named parameters of a callable, through its bases where it hands some on; None if any goes."""
    layers = (
        [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
        if isinstance(target, type)
        else [target]
    )
    found: dict[str, inspect.Parameter] = {}
    for layer in layers:
        own = _signature(layer).parameters.values()
        kinds = {parameter.kind for parameter in own}
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            found.pop("self", None)
            return found
    return None


def _signature(target: Any) -> inspect.Signature:
    """The signature with annotations as types, or as the text they are where that names nothing."""
    try:
        return inspect.signature(target, eval_str=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return inspect.signature(target)


def _refuse_unknown(where: str, given: Mapping[str, Any], known: Any) -> None:
    for key in given:
        if key not in known:
            raise LTBenchError(f"unknown key {key!r} in the {where}: {near_names(key, known)}")
