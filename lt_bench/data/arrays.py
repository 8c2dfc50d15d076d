"""array_lt: a user's own images in an npz archive or in parquet files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lt_bench.data.classes import class_names, number_of_classes
from lt_bench.data.dataset import LongTailData, refuse_untrained
from lt_bench.data.drawn import drawn_data
from lt_bench.data.images import check_labels
from lt_bench.data.profile import exponential_counts
from lt_bench.data.sources.find import find_sources
from lt_bench.data.sources.npz import find_npz
from lt_bench.data.sources.parquet import find_parquet
from lt_bench.data.sources.source import Sources
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS


@DATASETS.register_module(name="array_lt")
def array_lt(
    path: str | os.PathLike[str],
    name: str = "array_lt",
    classes: list[str] | None = None,
    imbalance_factor: float | None = None,
    largest: int | None = None,
    val_per_class: int = 0,
    image_column: str | None = None,
    label_column: str | None = None,
) -> LongTailData:
    """A set in memory, taken as it is, or thinned to an exponential profile.

    Args:
        path: an ``.npz`` file (:mod:`lt_bench.data.sources.npz`) or a folder with
            ``train-*.parquet``, ``test-*.parquet`` and perhaps ``validation-*.parquet``.
        name: what the record calls the set.
        classes: names; by default those of the file, else the indices up to the highest label.
        imbalance_factor: IF of the profile to draw; None takes the training split as it is.
        largest: training images of class 0 in a drawn profile; by default the most for which
            every class has enough.
        val_per_class: validation images a class out of those that a draw leaves over.
        image_column: of the parquet files, where it is not ``img`` or ``image``.
        label_column: of the parquet files, where it is not ``fine_label`` or ``label``.

    Raises:
        LTBenchError: no such data, an unreadable file, a wrong shape or label.
    """
    place = Path(path).expanduser()
    sources = find_sources(
        name,
        [place],
        {
            "an .npz file": partial(find_npz, name=name),
            "a folder with train-*.parquet and test-*.parquet": partial(
                find_parquet, image_column=image_column, label_column=label_column
            ),
        },
        advice="put one there, or correct dataset.path",
    )
    names = class_names(classes or sources.classes, _num_classes(sources, classes), str(place))
    check_labels(torch.from_numpy(sources.train.labels), len(names), f"the train split of {place}")
    available = np.bincount(sources.train.labels, minlength=len(names))
    if imbalance_factor is None:
        if val_per_class or largest is not None:
            raise LTBenchError(
                f"{name} is taken as it is, so val_per_class and largest have nothing to choose "
                "from; set imbalance_factor to draw a profile, or store a validation split"
            )
        return _as_given(name, names, sources)
    refuse_untrained(torch.from_numpy(available), names, name)
    if largest is None:
        largest = _largest_profile(available, imbalance_factor)
    return drawn_data(
        name,
        sources,
        exponential_counts(largest, imbalance_factor, len(names)),
        classes=names,
        val_per_class=val_per_class,
        facts={
            "imbalance_factor": imbalance_factor,
            "profile": "exponential",
            "largest": largest,
        },
    )


def _as_given(name: str, names: tuple[str, ...], sources: Sources) -> LongTailData:
    """The splits as the source has them."""
    return LongTailData(
        name=name,
        classes=names,
        train=sources.train.take(),
        val=sources.val.take() if sources.val is not None else None,
        test=sources.test.take(),
        facts={
            "profile": "as given",
            "draw": "none",
            "source": sources.kind,
            "validation": {"rule": "none" if sources.val is None else "the source's own validation split"},
        },
    )


def _num_classes(sources: Sources, classes: list[str] | None) -> int:
    if classes is not None:
        return len(classes)
    if sources.classes is not None:
        return len(sources.classes)
    splits = (sources.train, sources.val, sources.test)
    highest = (int(split.labels.max(initial=-1)) for split in splits if split is not None)
    return number_of_classes(highest, len(sources.train.labels), sources.train.where)


def _largest_profile(available: NDArray[np.int64], imbalance_factor: float) -> int:
    """The highest n_max whose count int(n_max * IF^(-j / (C - 1))) every class j can serve."""
    share = np.power(min(max(imbalance_factor, 1.0), 1e9), -np.linspace(0, 1, len(available)))
    # int() of the profile rounds down: up to, but not including, one image more would do.
    largest = max(int(np.min(np.ceil((available + 1) / share) - 1)), 1)
    # Where that limit is a whole number, rounding can put it on the wrong side.
    return largest if bool(np.all((largest * share).astype(np.int64) <= available)) else largest - 1
