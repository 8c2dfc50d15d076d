"""An experiment: a config found by name or path, or composed of several, with its plug-ins, resolved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_bench.config.composition import JOIN, Part, compose, part_names
from lt_bench.config.folders import config_folders, find_config, locate
from lt_bench.config.plugins import import_beside, named_imports
from lt_bench.config.reading import merged, read_config
from lt_bench.config.resolution import DEFAULTS, KEYS, resolve
from lt_bench.config.signatures import check_arguments, refuse_unknown
from lt_bench.errors import LTBenchError, near_names
from lt_bench.registry import DATASETS


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
        imports = [module for part in read for module in named_imports(part.pop("custom_imports", None))]
        common = {"convention": DEFAULTS["convention"]}
        given = compose([Part(n, {**common, **part}) for n, part in zip(names, read, strict=True)])
        given["custom_imports"] = imports
    given = merged(given, options or {}, name)
    import_beside([file.path for file in files], named_imports(given.pop("custom_imports", None)))
    folder = files[0].name.partition("/")[0]
    stems = JOIN.join(file.name.partition("/")[2] for file in files)
    return Experiment(f"{folder}/{stems}", resolve(given))


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
    import_beside([path], named_imports(given.pop("custom_imports", None)))
    refuse_unknown(f"dataset config {name}", given, KEYS)
    if not isinstance(given.get("dataset"), dict):
        raise LTBenchError(f"{path} has no 'dataset': {KEYS['dataset']}")
    check_arguments(DATASETS.get(given["dataset"].get("type")), given["dataset"], "dataset")
    return {
        "dataset": given["dataset"],
        "convention": given.get("convention", DEFAULTS["convention"]),
    }
