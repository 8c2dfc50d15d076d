"""Composed configs: ``cifar100_lt/ldam_r32+crt_r32`` is one experiment made of configs of one folder.

A part *sets* a seam where its method there is not the default (:data:`SEAMS`). Then

* each seam comes from the part that sets it;
* ``classifier_recipe`` and ``snapshots``, which only a classifier uses, from the part that sets the
  classifier;
* everything else from the part that sets the representation;
* and what no part sets, from the first.

Parts are of one dataset, convention and model. The label is theirs, representation first.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_bench.errors import LTBenchError

JOIN = "+"
# What stands at a seam that a config does not set.
SEAMS: dict[str, dict[str, Any]] = {
    "representation": {"type": "plain"},
    "classifier": {"type": "kept"},
    "prediction": {"type": "unchanged"},
}
# What all parts have in common, or they are not of one experiment.
COMMON = ("dataset", "convention", "model")
OF_CLASSIFIER = ("classifier_recipe", "snapshots")


@dataclass(frozen=True)
class Part:
    """One of the configs of a composed one.

    Attributes:
        name: its name, e.g. ``digits_lt/ldam``.
        config: its keys and values, as read.
    """

    name: str
    config: Mapping[str, Any]

    @property
    def method(self) -> Mapping[str, Any]:
        """Its ``method``.

        Raises:
            LTBenchError: it has none.
        """
        method = self.config.get("method")
        if not isinstance(method, dict):
            raise LTBenchError(f"{self.name} has no dict 'method', so it is no part of a composed config")
        return method

    @property
    def seams(self) -> list[str]:
        """The seams that it sets."""
        return [seam for seam, default in SEAMS.items() if self.method.get(seam, default) != default]

    @property
    def label(self) -> str:
        """Its method's name in a table."""
        return str(self.method.get("label", self.name.rpartition("/")[2]))


def part_names(name: str) -> list[str]:
    """Names or paths of the parts of ``folder/one+two``; of any other name, itself."""
    folder, slash, last = name.rpartition("/")
    return [f"{folder}{slash}{stem}" for stem in last.split(JOIN)]


def compose(parts: Sequence[Part]) -> dict[str, Any]:
    """One config of several, by the rule above.

    Args:
        parts: two or more.

    Raises:
        LTBenchError: two parts set one seam or differ in what must be common, or a part gives nothing.
    """
    givers: dict[str, Part] = {}
    for part in parts:
        for seam in part.seams:
            if seam in givers:
                raise LTBenchError(
                    f"{givers[seam].name} and {part.name} both set the {seam}; "
                    "a composed config takes it from one part, so leave one out"
                )
            givers[seam] = part
    base = givers.get("representation", parts[0])
    for part in parts:
        for key in COMMON:
            if part.config.get(key) != base.config.get(key):
                raise LTBenchError(
                    f"{base.name} and {part.name} differ in their {key}; "
                    f"compose configs of one {', '.join(COMMON[:-1])} and {COMMON[-1]}"
                )
        if part is not base and part not in givers.values():
            raise LTBenchError(
                f"{part.name} sets no seam, so a composed config takes nothing from it; leave it out"
            )
    composed = copy.deepcopy(dict(base.config))
    classifier = givers.get("classifier", base)
    for key in OF_CLASSIFIER:
        composed.pop(key, None)
        if key in classifier.config:
            composed[key] = copy.deepcopy(classifier.config[key])
    ordered = {part.name: part.label for part in (base, *(givers[s] for s in SEAMS if s in givers))}
    seams = {seam: givers.get(seam, base).method.get(seam, default) for seam, default in SEAMS.items()}
    return {**composed, "method": {"label": " + ".join(ordered.values()), **copy.deepcopy(seams)}}
