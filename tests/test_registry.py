"""METHODS takes methods only, refuses collisions and offers near names."""

from __future__ import annotations

import pytest

from lt_bench.errors import LTBenchError, near_names
from lt_bench.method import Classifier, FollowingClassifier, Prediction, Representation
from lt_bench.registry import ALIGNMENTS, DATASETS, METHODS, NamedRegistry


def test_a_wrong_class_is_refused_where_it_is_written() -> None:
    with pytest.raises(LTBenchError, match=r"expected a subclass of lt_bench\.method\.Method"):

        @METHODS.register_module("not a method")
        class Other:
            pass

    with pytest.raises(LTBenchError, match="expected a subclass"):
        METHODS.register_module("a function", module=lambda task: None)
    assert "not a method" not in METHODS.names()


def test_a_class_that_lacks_a_part_is_refused_where_it_is_written() -> None:
    for base, lacking in ((Classifier, "fit"), (FollowingClassifier, "follower"), (Prediction, "__call__")):
        misspelt = type("Misspelt", (base,), {"fitt": None, "plan": None})
        with pytest.raises(LTBenchError, match=f"registered as a method: it lacks .*{lacking}"):
            METHODS.register_module("misspelt", module=misspelt)
    other = type("Other", (Representation,), {"criterian": lambda self, logits, labels: logits.sum()})
    with pytest.raises(LTBenchError, match="did you mean 'criterion' by 'criterian'"):
        METHODS.register_module("misspelt", module=other)
    assert "misspelt" not in METHODS.names()


def test_a_taken_name_is_refused() -> None:
    METHODS.names()
    with pytest.raises(LTBenchError, match=r"'plain' is taken by methods\.plain\.Plain"):

        @METHODS.register_module("plain")
        class Mine(Representation):
            def criterion(self, logits, labels):
                return logits.sum()

    assert METHODS.get("plain").__module__ == "methods.plain"


def test_near_names_are_offered() -> None:
    with pytest.raises(LTBenchError, match="did you mean 'breadcrumb'"):
        METHODS.get("bread_crumbs")
    with pytest.raises(LTBenchError, match="did you mean 'variance'"):
        ALIGNMENTS.get("varience")
    assert near_names("x", []) == "known: none"
    assert near_names("crtt", ["crt", "lws"]) == "did you mean 'crt'? known: crt, lws"
    many = [f"name{i}" for i in range(100)]
    assert near_names("zzz", many).endswith(", ...") and "known" not in near_names("name1", many)


@pytest.mark.parametrize("name", ["", ".", "..", "lt_bench", 5])
def test_what_is_no_name_is_unknown(name: object) -> None:
    for registry in (METHODS, DATASETS):
        with pytest.raises(LTBenchError, match=f"unknown {registry.name} {name!r}: "):
            registry.get(name)


def test_build_says_what_does_not_fit() -> None:
    registry = NamedRegistry("thing", scope="test")

    @registry.register_module("pair")
    def pair(one: int, two: int = 2) -> tuple[int, int]:
        return one, two

    assert registry.build({"type": "pair", "one": 1}) == (1, 2)
    with pytest.raises(LTBenchError, match="thing 'pair': .*three"):
        registry.build({"type": "pair", "one": 1, "three": 3})
    with pytest.raises(LTBenchError, match="thing 'pair': missing.*'one'"):
        registry.build({"type": "pair"})
    with pytest.raises(LTBenchError, match="a thing is a dict with a 'type'"):
        registry.build({"one": 1})


def test_an_error_inside_a_method_keeps_its_traceback() -> None:
    registry = NamedRegistry("thing", scope="test2")

    @registry.register_module("broken")
    def broken() -> None:
        raise TypeError("a bug, not a config's fault")

    with pytest.raises(TypeError, match="a bug"):
        registry.build({"type": "broken"})


def test_prediction_that_chooses_nothing() -> None:
    class Same(Prediction):
        def __call__(self, logits):
            return logits

    assert Same(None).fit(None) == ({}, "none")
