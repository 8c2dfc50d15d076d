"""Where configs lie: found by path, or by a name such as ``digits_lt/crt``.

A folder may be *derived*: it holds one file, ``_folder.py``, that names another folder in ``configs_of`` and
says what is different here. Every config of that folder is then one of this folder, too:

    configs_of = "cifar100_lt"
    dataset = dict(imbalance_factor=50)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lt_bench.config.composition import JOIN
from lt_bench.config.reading import read_config
from lt_bench.errors import LTBenchError, near_names

DERIVED = "_folder.py"
BASES = "_base_"


@dataclass(frozen=True)
class ConfigFile:
    """A config that was found.

    Attributes:
        name: ``<folder>/<stem>``.
        path: the file to read.
        changes: the ``_folder.py`` with what is different, for a config of a derived folder.
    """

    name: str
    path: Path
    changes: Path | None = None


def config_folders() -> list[Path]:
    """Where named configs are looked up: ./configs, the clone's, the installed package's."""
    here = Path(__file__).resolve().parents[1]
    return [p for p in (Path("configs"), here.parent / "configs", here / "configs") if p.is_dir()]


def list_configs() -> list[str]:
    """Names of all configs that can be run, sorted."""
    names = set()
    for root in config_folders():
        for folder in root.iterdir():
            sources = [folder]
            if (folder / DERIVED).is_file():
                sources.append(root / _source(folder / DERIVED))
            if folder.name != BASES:
                names |= {f"{folder.name}/{path.stem}" for source in sources for path in _own_configs(source)}
    return sorted(names)


def find_config(name: str) -> ConfigFile:
    """The file of a config given as a path or as a name such as ``digits_lt/crt``.

    Raises:
        LTBenchError: there is none; the sentence offers near names.
    """
    found = locate(name)
    if found is not None:
        return found
    if JOIN in name.rpartition("/")[0]:
        raise LTBenchError(
            f"there is no config {name!r}; parts of a composed one lie in one folder, which is named once: "
            f"digits_lt/ldam{JOIN}crt"
        )
    raise LTBenchError(
        f"there is no config {name!r}: {near_names(_stem(name), list_configs())}"
        if list_configs()
        else f"there is no config {name!r}, and no configs folder was found"
    )


def locate(name: str) -> ConfigFile | None:
    """The file of a config, or None.

    Raises:
        LTBenchError: it would be in a derived folder whose ``_folder.py`` does not name another folder.
    """
    path = Path(name)
    if path.is_file():
        return ConfigFile(_name_in(path.parent, path.stem), path)
    folder, _, stem = _stem(name).rpartition("/")
    for root in config_folders():
        own, changes = root / folder / f"{stem}.py", root / folder / DERIVED
        if own.is_file():
            return ConfigFile(_name_in(own.parent, stem), own)
        if changes.is_file():
            derived = root / _source(changes) / f"{stem}.py"
            if derived.is_file():
                return ConfigFile(_name_in(changes.parent, stem), derived, changes)
    return None


def _name_in(folder: Path, stem: str) -> str:
    return f"{folder.resolve().name}/{stem}"


def _own_configs(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _source(changes: Path) -> str:
    source = read_config(changes).get("configs_of")
    if not isinstance(source, str) or not (changes.parent.parent / source).is_dir():
        raise LTBenchError(
            f"{changes} sets configs_of to {source!r}, which is no folder beside its own; "
            "name one that has configs"
        )
    return source


def _stem(name: str) -> str:
    return name.removeprefix("configs/").removesuffix(".py")
