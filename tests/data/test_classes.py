"""Numbers and names of classes."""

from __future__ import annotations

import pytest

from lt_bench.data.classes import class_names, number_of_classes
from lt_bench.errors import LTBenchError


def test_names_are_the_indices_where_there_are_none() -> None:
    assert class_names(None, 3, "it") == ("0", "1", "2")
    assert class_names(["a", "b"], 2, "it") == ("a", "b")
    with pytest.raises(LTBenchError, match="it has 3 classes but 2 class names"):
        class_names(["a", "b"], 3, "it")


def test_counts_from_the_highest_label() -> None:
    assert number_of_classes([2, 4, -1], 5, "it") == 5
    assert number_of_classes([], 0, "it") == 0
    with pytest.raises(LTBenchError, match="highest label of it is 999999999999, but there are"):
        number_of_classes([999_999_999_999], 5, "it")
