"""The counts that are shipped, against the public files and the figures of the field."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from lt_bench.data.class_counts import NAMES, class_counts
from lt_bench.errors import LTBenchError
from lt_bench.snapshots.plan import class_specific_plan

SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"


@pytest.mark.parametrize(
    ("name", "classes", "samples", "smallest", "largest", "groups", "n_b"),
    [
        ("imagenet_lt", 1000, 115_846, 5, 1280, (385, 479, 136), 116),
        ("places_lt", 365, 62_500, 5, 4980, (131, 163, 71), 172),
        ("inaturalist2018", 8142, 437_513, 2, 1000, (842, 4076, 3224), 54),
    ],
)
def test_published_sizes_and_strict_groups(
    name: str, classes: int, samples: int, smallest: int, largest: int, groups: tuple, n_b: int
) -> None:
    counts = torch.tensor(class_counts(name).counts)
    assert (len(counts), int(counts.sum())) == (classes, samples)
    assert (int(counts.min()), int(counts.max())) == (smallest, largest)
    many, few = int((counts > 100).sum()), int((counts < 20).sum())
    assert (many, classes - many - few, few) == groups
    assert class_specific_plan(counts).n_b == n_b


@pytest.mark.parametrize(("name", "tested"), [("imagenet_lt", 50_000), ("places_lt", 36_500)])
def test_published_test_sizes(name: str, tested: int) -> None:
    known = class_counts(name)
    assert known.test_per_class * len(known.counts) == tested
    assert "Liu et al." in known.source


@pytest.mark.skipif(not SPLITS.is_dir(), reason="the public list files are not here (shared/data/splits)")
def test_the_counts_are_those_of_the_public_files() -> None:
    listed = (SPLITS / "ImageNet_LT_class_counts.txt").read_text().split()
    assert class_counts("imagenet_lt").counts == tuple(map(int, listed))
    labels = Counter(int(line.split()[-1]) for line in (SPLITS / "Places_LT_train.txt").open())
    assert class_counts("places_lt").counts == tuple(labels[j] for j in range(365))


def test_a_file_of_counts(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("30\n 4 \n\n2\n")
    found = class_counts(str(path))
    assert (found.name, found.counts) == ("mine", (30, 4, 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5\n-1\n", "line 2 of .* is '-1', expected one whole number from 1"),
        ("5\n0\n", "line 2 of .* is '0'"),
        ("5\nn02 3\n", "line 2 of .* is 'n02 3'"),
        ("5\n", "has counts of 1 classes, expected 2 or more"),
    ],
)
def test_a_file_that_is_not_one_of_counts(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(text)
    with pytest.raises(LTBenchError, match=said):
        class_counts(str(path))


def test_an_unknown_name() -> None:
    with pytest.raises(LTBenchError, match="did you mean 'places_lt'"):
        class_counts("place_lt")
    assert all(class_counts(name).name == name for name in NAMES)
