"""What a class or function takes, held against what a config gives it."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Collection, Mapping
from typing import Any, Union, get_args, get_origin

from lt_bench.errors import LTBenchError, near_names


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
    parameters = parameters_of(target)
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


def parameters_of(target: Any) -> dict[str, inspect.Parameter] | None:
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


def refuse_unknown(where: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse keys of ``given`` that are not among those ``known`` in the place that ``where`` names.

    Raises:
        LTBenchError: an unknown key.
    """
    for key in given:
        if key not in known:
            raise LTBenchError(f"unknown key {key!r} in the {where}: {near_names(key, known)}")
