"""Methods from outside: of installed packages, and of modules that a config names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lt_bench.errors import LTBenchError
from lt_bench.registry import METHODS


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


def named_imports(given: Any) -> list[str]:
    """The modules that ``custom_imports`` names."""
    modules = given.get("imports", []) if isinstance(given, dict) else given or []
    modules = [modules] if isinstance(modules, str) else modules
    if not isinstance(modules, (list, tuple)) or not all(isinstance(module, str) for module in modules):
        raise LTBenchError(f"custom_imports names modules, as in dict(imports=['mine']); got {given!r}")
    return list(modules)


def import_beside(paths: Sequence[Path], modules: Sequence[str]) -> None:
    """Import modules that may lie beside the files in ``paths``, and all plug-ins.

    Raises:
        LTBenchError: one cannot be imported, or Python would take another of its name.
    """
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
