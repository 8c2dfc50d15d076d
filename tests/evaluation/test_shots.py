"""Shot groups against the rule written out, and against the class numbers of real splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import CONVENTIONS, GROUPS, group_sizes, shot_groups

SPLITS = Path(__file__).parents[3] / "shared" / "data" / "splits"

RULES = {
    "paper": lambda t: "many" if t > 100 else "medium" if t > 20 else "few",
    "strict": lambda t: "many" if t > 100 else "medium" if t >= 20 else "few",
    "inclusive": lambda t: "many" if t >= 100 else "medium" if t > 20 else "few",
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 300), min_size=1, max_size=50))
def test_groups_follow_the_rule(convention, counts):
    groups = shot_groups(torch.tensor(counts), convention)
    assert groups.dtype == torch.int8
    assert [GROUPS[group] for group in groups] == [RULES[convention](t) for t in counts]


def test_the_conventions_differ_only_at_the_boundaries():
    counts = torch.tensor([101, 100, 99, 21, 20, 19])
    found = {name: shot_groups(counts, name).tolist() for name in CONVENTIONS}
    assert found == {
        "paper": [0, 1, 1, 1, 2, 2],
        "strict": [0, 1, 1, 1, 1, 2],
        "inclusive": [0, 0, 1, 1, 2, 2],
    }


@pytest.mark.parametrize(("imbalance_factor", "sizes"), [(100, (35, 35, 30)), (10, (69, 31, 0))])
def test_cifar100_classes(imbalance_factor, sizes):
    counts = torch.tensor([int(500 * imbalance_factor ** (-j / 99)) for j in range(100)])
    assert tuple(group_sizes(counts, "strict").values()) == sizes


@pytest.mark.skipif(not SPLITS.is_dir(), reason="the public split lists are not here")
@pytest.mark.parametrize(
    ("convention", "sizes"), [("strict", (385, 479, 136)), ("inclusive", (391, 463, 146))]
)
def test_imagenet_lt_classes(convention, sizes):
    lines = (SPLITS / "ImageNet_LT_class_counts.txt").read_text().split()
    counts = torch.tensor([int(line) for line in lines])
    assert int(counts.sum()) == 115_846
    assert tuple(group_sizes(counts, convention).values()) == sizes


@pytest.mark.skipif(not SPLITS.is_dir(), reason="the public split lists are not here")
@pytest.mark.parametrize(("convention", "sizes"), [("strict", (131, 163, 71)), ("inclusive", (132, 156, 77))])
def test_places_lt_classes(convention, sizes):
    lines = (SPLITS / "Places_LT_train.txt").read_text().splitlines()
    found = Counter(int(line.split()[-1]) for line in lines)
    counts = torch.tensor([found[label] for label in range(365)])
    assert int(counts.sum()) == 62_500
    assert tuple(group_sizes(counts, convention).values()) == sizes


def test_an_unknown_convention_names_the_three():
    with pytest.raises(LTBenchError, match="did you mean 'strict'.*inclusive, paper, strict"):
        shot_groups(torch.tensor([1]), "stict")


@pytest.mark.parametrize(
    "counts", [torch.tensor([3, -1]), torch.tensor([1.5]), torch.ones(2, 2, dtype=torch.long)]
)
def test_counts_that_are_no_counts_are_refused(counts):
    with pytest.raises(LTBenchError, match="training count"):
        shot_groups(counts, "paper")
