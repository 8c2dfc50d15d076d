"""The registries: METHODS and ALIGNMENTS of this project, and children of MMEngine's.

A name is looked up, refused and suggested in one place. ``METHODS`` takes only subclasses of
:class:`lt_bench.method.Method`, so that a wrong class is refused where it is written and not in the
middle of a run.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from lt_bench.errors import LTBenchError, near_names


class NamedRegistry(Registry):
    """MMEngine's registry with clear refusals.

    Args:
        name: what one entry is called in an error, e.g. ``"method"``.
        base: ``"module:Class"`` of which every entry must be a subclass; None accepts any callable.
        **kwargs: passed to :class:`mmengine.registry.Registry`.
    """

    def __init__(self, name: str, *, base: str | None = None, **kwargs: Any) -> None:
        self._base = base
        super().__init__(name, **kwargs)

    def _register_module(
        self,
        module: type | Callable[..., Any],
        module_name: str | list[str] | None = None,
        force: bool = False,
    ) -> None:
        if self._base is not None:
            where, _, what = self._base.partition(":")
            base = getattr(importlib.import_module(where), what)
            if not (isinstance(module, type) and issubclass(module, base)):
                raise LTBenchError(
                    f"{module!r} cannot be registered as a {self.name}: expected a subclass of {where}.{what}"
                )
            known = {name for parent in module.__bases__ for name in dir(parent)}
            for name in (name for name in vars(module) if not name.startswith("_") and name not in known):
                near = difflib.get_close_matches(name, known, 1, 0.85)
                if near and callable(getattr(module, name)):
                    raise LTBenchError(
                        f"{module!r} cannot be registered as a {self.name}: did you mean {near[0]!r} by "
                        f"{name!r}? If not, give it another name"
                    )
            if inspect.isabstract(module):
                lacking = ", ".join(sorted(getattr(module, "__abstractmethods__", ())))
                raise LTBenchError(f"{module!r} cannot be registered as a {self.name}: it lacks {lacking}")
        names = [module_name] if isinstance(module_name, str) else module_name
        for name in names or [module.__name__]:
            taken = self._module_dict.get(name)
            if taken is not None and not force:
                raise LTBenchError(
                    f"the {self.name} name {name!r} is taken by "
                    f"{taken.__module__}.{taken.__qualname__}; choose another name"
                )
        super()._register_module(module, module_name, force)

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self.import_from_location()
        return sorted(self._module_dict)

    def get(self, key: str) -> Any:
        """The entry called ``key``.

        Raises:
            LTBenchError: there is none; the sentence offers near names.
        """
        try:
            found = super().get(key) if isinstance(key, str) else None
        except (RuntimeError, TypeError, ValueError):
            # MMEngine's get imports what may be the name of a module, which can fail.
            found = None
        # Any module's name would be found.
        if not (inspect.isclass(found) or inspect.isfunction(found)):
            raise LTBenchError(f"unknown {self.name} {key!r}: {near_names(str(key), self.names())}")
        return found

    def build(self, cfg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Build ``cfg["type"]`` from the remaining keys.

        Raises:
            LTBenchError: no ``type``, an unknown one, or arguments that it does not take.
        """
        if not isinstance(cfg, dict) or "type" not in cfg:
            raise LTBenchError(f"a {self.name} is a dict with a 'type', got {cfg!r}")
        # Not the parent's build: it looks a name up under MMEngine's current scope, which is global.
        target = self.get(cfg["type"]) if isinstance(cfg["type"], str) else cfg["type"]
        given = {**kwargs, **{key: value for key, value in cfg.items() if key != "type"}}
        try:
            inspect.signature(target).bind(*args, **given)
        except TypeError as error:
            raise LTBenchError(f"{self.name} {cfg['type']!r}: {error}") from error
        return target(*args, **given)


def _child(name: str, parent: Registry, *locations: str) -> NamedRegistry:
    return NamedRegistry(name, parent=parent, scope="lt_bench", locations=list(locations))


METHODS = NamedRegistry("method", base="lt_bench.method:Method", scope="lt_bench", locations=["methods"])
ALIGNMENTS = NamedRegistry("alignment", scope="lt_bench", locations=["lt_bench.snapshots"])
DATASETS = _child("dataset", mmengine_registry.DATASETS, "lt_bench.data")
DATA_SAMPLERS = _child("sampler", mmengine_registry.DATA_SAMPLERS, "lt_bench.data")
TRANSFORMS = _child("transform", mmengine_registry.TRANSFORMS, "lt_bench.data")
MODELS = _child("model", mmengine_registry.MODELS, "lt_bench.models")
HOOKS = _child("hook", mmengine_registry.HOOKS, "lt_bench.engine")
LOOPS = _child("loop", mmengine_registry.LOOPS, "lt_bench.engine")
METRICS = _child("metric", mmengine_registry.METRICS, "lt_bench.evaluation")
