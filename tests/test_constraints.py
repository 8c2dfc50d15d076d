"""Every version that constraints.txt names installs on the oldest Python that is declared."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]


def test_pins_install_on_the_oldest_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = SpecifierSet(project["project"]["requires-python"])
    oldest = min((s.version for s in declared if s.operator == ">="), key=lambda v: [*map(int, v.split("."))])
    assert project["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    classifiers = {c.rpartition(" ")[2] for c in project["project"]["classifiers"] if "Python :: 3." in c}
    assert classifiers == {f"3.{minor}" for minor in range(30) if f"3.{minor}" in declared}
    looked_at = 0
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        try:
            held = metadata(name)
        except PackageNotFoundError:
            continue
        if held["Version"].partition("+")[0] == version:
            looked_at += 1
            assert oldest in SpecifierSet(held.get("Requires-Python", "")), line
    assert looked_at
