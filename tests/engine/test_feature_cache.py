"""Features are made once for all classifiers that go through the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
import torch
from torch import Tensor

import lt_bench.engine.stage2 as stage2_module
from lt_bench.engine.feature_cache import FeatureCache
from lt_bench.engine.stage2 import FrozenRepresentation
from lt_bench.run.jobs import Settings, jobs_of
from methods.ncm import NCM
from tests.short import SHORT


class Source:
    """Batches of one row each, and how often they were made."""

    def __init__(self, batches: int) -> None:
        self.batches, self.made = batches, 0

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.made += 1
        for number in range(self.batches):
            yield torch.full((1, 4), float(number)), torch.tensor([number])


def values(cache: FeatureCache, key: object, source: Source) -> list[int]:
    return [int(labels) for _, labels in cache.epoch(key, source)]


def test_an_epoch_is_made_once() -> None:
    cache, source = FeatureCache(count().__next__), Source(3)
    assert values(cache, "a", source) == values(cache, "a", source) == [0, 1, 2]
    assert source.made == 1 and cache.spared == 1
    values(cache, "b", source)
    assert source.made == 2


def test_what_does_not_fit_is_made_again() -> None:
    # A batch is 16 bytes of features and 8 of labels.
    cache, source = FeatureCache(count().__next__, most_bytes=3 * 24), Source(4)
    assert values(cache, "a", source) == values(cache, "a", source) == [0, 1, 2, 3]
    assert source.made == 2 and cache.spared == 0
    small = Source(3)
    values(cache, "b", small)
    assert values(cache, "b", small) == [0, 1, 2] and small.made == 1
    other = Source(1)
    assert values(cache, "c", other) == values(cache, "c", other) == [0] and other.made == 2


def test_an_epoch_that_was_left_early_is_not_kept() -> None:
    cache, source = FeatureCache(count().__next__), Source(3)
    next(cache.epoch("a", source))
    assert values(cache, "a", source) == [0, 1, 2] and source.made == 2


def test_what_a_device_does_later_counts(short: Callable, launch: Callable, tmp_path) -> None:
    """On a GPU a forward only queues its work: the seconds are those of the device's clock."""

    class Device:
        """A clock that features move on, and the host does not."""

        name, time = "device", 0.0

        def now(self) -> float:
            return self.time

        def passed(self, mark: float) -> bool:
            return True

        def wait(self, mark: float) -> None:
            pass

        def between(self, start: float, end: float) -> float:
            return end - start

    experiment = short("crt")
    launch(experiment)
    (job,) = jobs_of([experiment], [0], Settings(tmp_path / "here/work", tmp_path / "here/records"))
    stage, clock = FrozenRepresentation(job.stage), Device()
    stage.parts.clock = clock
    original = stage.model.features

    def features(images: Tensor) -> Tensor:
        clock.time += 1
        return original(images)

    stage.model.features = features
    stage.features("test")
    assert stage.seconds["test"] == clock.time > 0
    before = clock.time
    for _ in range(2):
        for _ in stage.image_features({"type": "instance"}, batch_size=32, epochs=1).epoch(1):
            pass
    assert stage.cache.spared == clock.time - before > 0


@pytest.fixture()
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that went through a frozen backbone for a classifier, batch by batch."""
    seen: list[int] = []

    class Counting(stage2_module.ImageFeatureEpochs):
        def made(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            for features, labels in super().made(epoch):
                seen.append(len(labels))
                yield features, labels

    monkeypatch.setattr(stage2_module, "ImageFeatureEpochs", Counting)
    return seen


def test_crt_and_lws_share_their_images_and_give_what_they_give_alone(
    short: Callable, launch: Callable, forwards: list[int]
) -> None:
    crt, lws = short("crt"), short("lws", **{"method.classifier.recipe.epochs": 1})
    together = launch(crt, lws, folder="together")
    shared = len(forwards)
    alone = [launch(one, folder="alone")[0] for one in (crt, lws)]
    assert shared == 2 * (len(forwards) - shared) // 3, "two epochs of cRT, the first of which is LWS's"
    for (_, one), (_, other) in zip(together, alone, strict=True):
        assert one.scores == other.scores
    # What was made for cRT counts for LWS, too, and is told apart.
    (_, first), (_, second) = together
    assert first.stage_parts["stage2"]["shared"] == 0 < second.stage_parts["stage2"]["shared"]
    assert second.stage_seconds["classifier"] > second.stage_parts["stage2"]["shared"]


def test_other_images_are_not_taken_for_the_same(
    short: Callable, launch: Callable, forwards: list[int]
) -> None:
    crt, lws = short("crt"), short("lws", **{"method.classifier.sampler": {"type": "instance"}})
    launch(crt, lws, folder="together")
    together = len(forwards)
    launch(crt, folder="alone")
    launch(lws, folder="alone")
    assert len(forwards) == 2 * together


def test_a_search_over_a_classifier_makes_its_features_once(tmp_path, forwards: list[int]) -> None:
    from rich.console import Console

    from lt_bench.search import search

    def batches(values: list[float]) -> int:
        before = len(forwards)
        search(
            "digits_lt/crt",
            {"classifier_recipe.lr": values},
            [0],
            options=SHORT,
            work_dir=tmp_path / "work",
            out=tmp_path / f"out_{len(values)}",
            console=Console(quiet=True),
        )
        return len(forwards) - before

    assert batches([0.05]) == batches([0.05, 0.1, 0.2]) > 0


def test_features_are_those_of_the_model(short: Callable, launch: Callable, monkeypatch) -> None:
    """The cache hands on what the model gave: the classifier of a run without one is the same."""
    kept = launch(short("crt"), short("disalign"), folder="kept")
    monkeypatch.setattr(stage2_module, "FeatureCache", lambda spent: FeatureCache(spent, most_bytes=0))
    made = launch(short("crt"), short("disalign"), folder="made")
    assert [r.scores for _, r in kept] == [r.scores for _, r in made]


def test_features_of_the_training_images_are_counted_for_each_who_uses_them(
    short: Callable, launch: Callable
) -> None:
    outcome = launch(short("ncm"), short("ncm+logit_adjusted"))
    first, second = (record.stage_parts["stage2"] for _, record in outcome)
    assert first["shared"] == 0 < second["shared"]
    assert second["shared"] == pytest.approx(first["features"] - second["features"])


def test_a_classifier_s_own_features_are_not_another_s(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = NCM.fit

    def asking_twice(self, stage):
        stage.features("train")
        return original(self, stage)

    monkeypatch.setattr(NCM, "fit", asking_twice)
    ((_, record),) = launch(short("ncm"))
    assert record.stage_parts["stage2"]["shared"] == 0
