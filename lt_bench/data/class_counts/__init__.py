"""Training counts n_j of the field's large datasets, by name, for what needs their size but not their images.

ImageNet-LT's and Places-LT's are the counts of the public list files, kept here as JSON. Those of iNaturalist
2018 are a profile with its groups and total (:func:`lt_bench.data.profile.inaturalist_profile`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lt_bench.data.profile import inaturalist_profile
from lt_bench.errors import LTBenchError, near_names

_FILES = ("imagenet_lt", "places_lt")
NAMES = (*_FILES, "inaturalist2018")
# Of counts from a user's file, which says neither.
_TEST_PER_CLASS, _FEATURE_DIM = 10, 512


@dataclass(frozen=True)
class ClassCounts:
    """How many images a dataset has.

    Attributes:
        name: of the dataset, or of the file that holds the counts.
        counts: C training counts n_j, in label order.
        test_per_class: images of every class in the test split (balanced in all three datasets).
        feature_dim: d of the backbone that the dataset's published numbers are of.
        source: where the counts come from.
    """

    name: str
    counts: tuple[int, ...]
    test_per_class: int
    feature_dim: int
    source: str


def class_counts(name: str) -> ClassCounts:
    """The counts of a dataset, or those in a file.

    Args:
        name: one of ``NAMES``, or the path of a text file with one count a line, in label order.

    Raises:
        LTBenchError: neither a name nor a file, or a line that is not a whole number from 1.
    """
    if name in _FILES:
        held = json.loads(files(__name__).joinpath(f"{name}.json").read_text())
        return ClassCounts(
            name, tuple(held["counts"]), held["test_per_class"], held["feature_dim"], held["source"]
        )
    if name == "inaturalist2018":
        source = "generated: iNaturalist 2018's 842 many, 4,076 medium and 3,224 few classes and its total"
        return ClassCounts(name, tuple(inaturalist_profile()), 3, 2048, source)
    path = Path(name).expanduser()
    if not path.is_file():
        raise LTBenchError(
            f"class counts are those of {', '.join(NAMES)}, or a file with one count a line; there is no "
            f"{name!r}: {near_names(name, NAMES)}"
        )
    return ClassCounts(path.stem, _read(path), _TEST_PER_CLASS, _FEATURE_DIM, path.name)


def _read(path: Path) -> tuple[int, ...]:
    try:
        lines = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LTBenchError(f"cannot read the class counts in {path}: {error}; give a text file") from error
    counts = []
    for number, line in enumerate(lines, 1):
        word = line.strip()
        if not word:
            continue
        if not (word.isascii() and word.isdigit() and 1 <= int(word) < 2**31):
            raise LTBenchError(
                f"line {number} of {path} is {word[:40]!r}, expected one whole number from 1, the training "
                "images of a class; correct the line"
            )
        counts.append(int(word))
    if len(counts) < 2:
        raise LTBenchError(f"{path} has counts of {len(counts)} classes, expected 2 or more; add the others")
    return tuple(counts)
