"""MMEngine's config files as plain dicts, lists, numbers and strings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from lt_bench.errors import LTBenchError


def read_config(path: Path, changes: Path | None = None) -> dict[str, Any]:
    """A config file with its bases.

    Args:
        path: the file.
        changes: a second one, whose values are merged into the first's.

    Raises:
        LTBenchError: one does not read, or holds what is no number, string, list or dict.
    """
    with _does_not_read(path):
        given = dict(_plain(Config.fromfile(str(path), import_custom_modules=False)._cfg_dict))
    if changes is None:
        return given
    different = read_config(changes)
    different.pop("configs_of", None)
    return merged(given, different, changes)


def merged(given: Mapping[str, Any], changes: Mapping[str, Any], name: str | Path) -> dict[str, Any]:
    """A config with other values, by dotted keys or nested dicts, as MMEngine merges them.

    Raises:
        LTBenchError: they do not merge.
    """
    with _does_not_read(name):
        config = Config(dict(given))
        config.merge_from_dict(dict(changes))
        return dict(_plain(config._cfg_dict))


@contextmanager
def _does_not_read(name: str | Path) -> Iterator[None]:
    try:
        yield
    except LTBenchError:
        raise
    except Exception as error:
        raise LTBenchError(
            f"config {os.fspath(name)} does not read: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _plain(value: Any) -> Any:
    """ConfigDicts and tuples as plain dicts and lists, so that a config is JSON."""
    if isinstance(value, (dict, ConfigDict)):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise LTBenchError(
        f"a config holds numbers, strings, lists and dicts; got {value!r} of type {type(value).__name__}"
    )
