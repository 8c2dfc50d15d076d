"""Augmented views of a split's images, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lt_bench.data.images import ImageSet
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.errors import LTBenchError
from lt_bench.run import finishing


@pytest.fixture()
def opened(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FrozenRepresentation:
    """The stage 1 of a short run, with evaluation batches that cut a split unevenly."""
    found: list[FrozenRepresentation] = []

    class Noting(FrozenRepresentation):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            found.append(self)

    monkeypatch.setattr(finishing, "FrozenRepresentation", Noting)
    launch(short("plain", **{"stage1.epochs": 1, "runtime.eval_batch_size": 33}))
    return found[0]


def test_views_are_in_order_repeatable_and_augmented(opened: FrozenRepresentation) -> None:
    plain = opened.features("test")
    features, labels = opened.augmented_features("test", 2)
    assert features.shape == (len(plain.labels), 2, opened.feature_dim)
    assert torch.equal(labels, plain.labels)
    again, _ = opened.augmented_features("test", 3)
    assert torch.equal(again[:, :2], features), "more views leave the first as they are"
    assert not torch.equal(features[:, 0], features[:, 1])
    # A shifted digit is nearer to itself than to the mean of all: rows belong to their images.
    for view in (0, 1):
        own = (features[:, view] - plain.features).norm(dim=1).mean()
        others = (features[:, view] - plain.features.roll(1, 0)).norm(dim=1).mean()
        assert own < others


def test_without_random_transforms_a_view_is_the_image(opened: FrozenRepresentation) -> None:
    opened.stage.config["train_transforms"] = opened.stage.config["test_transforms"]
    features, _ = opened.augmented_features("val", 1)
    torch.testing.assert_close(features[:, 0], opened.features("val").features)


def test_features_depend_neither_on_the_batch_nor_on_what_went_before(opened: FrozenRepresentation) -> None:
    """A frozen backbone is in eval mode: its batch statistics are stage 1's and stay so."""
    before = {name: value.clone() for name, value in opened.model.state_dict().items()}
    whole = opened.features_by(opened.model, "test").features
    balanced = {"type": "class_aware", "per_visit": 4}
    assert list(opened.image_features(balanced, batch_size=32, epochs=1).epoch(1))
    opened.stage.config["runtime"]["eval_batch_size"] = 7
    smaller = opened.features_by(opened.model, "test").features
    torch.testing.assert_close(smaller, whole, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in opened.model.state_dict().items())


def test_a_missing_split_a_missing_class_and_no_view(opened: FrozenRepresentation) -> None:
    assert opened.augmented_features("unlabelled", 2) is None
    with pytest.raises(LTBenchError, match="1 view or more, got 0"):
        opened.augmented_features("test", 0)
    # Test splits may lack a class, which samplers of training refuse.
    data = opened.stage.data
    test = ImageSet(data.test.images, data.test.labels.clamp(min=3))
    opened.stage = replace(opened.stage, data=replace(data, test=test))
    features, labels = opened.augmented_features("test", 1)
    assert int(labels.min()) == 3 and len(features) == len(labels)
