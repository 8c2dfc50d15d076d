"""From a balanced source to long-tailed data: the step that all drawn datasets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lt_bench.data.classes import class_names
from lt_bench.data.dataset import LongTailData
from lt_bench.data.images import check_labels
from lt_bench.data.profile import draw_long_tail
from lt_bench.data.sources.source import Sources


def drawn_data(
    name: str,
    sources: Sources,
    counts: Sequence[int],
    *,
    classes: Sequence[str] | None = None,
    val_per_class: int = 0,
    facts: dict[str, Any],
) -> LongTailData:
    """Draw ``counts`` from the source's training split and decode only what is kept.

    Args:
        name: of the dataset.
        sources: balanced train split and test split; a validation split of its own is used as
            it is, unless ``val_per_class`` asks for one from the left-over images.
        counts: C training counts.
        classes: names; by default those of the source, else the indices.
        val_per_class: validation images a class from what the draw leaves over, see
            :func:`lt_bench.data.profile.draw_long_tail`.
        facts: of the profile, to which the source, the draw and the validation rule are added.

    Raises:
        LTBenchError: a label out of range, a class with too few images, an unreadable source.
    """
    names = class_names(classes or sources.classes, len(counts), sources.train.where)
    check_labels(torch.from_numpy(sources.train.labels), len(counts), sources.train.where)
    draw = draw_long_tail(sources.train.labels, counts, val_per_class=val_per_class, class_names=names)
    if val_per_class:
        val = sources.train.take(draw.val) if len(draw.val) else None
        per_class = np.bincount(sources.train.labels[draw.val], minlength=len(counts))
        without = np.flatnonzero(per_class == 0).tolist()
        rule = f"next {val_per_class} images a class of the shuffled list that the draw left over"
        validation: dict[str, Any] = {"rule": rule, "classes_without": without}
        if (short := np.flatnonzero((per_class < val_per_class) & (per_class > 0))).size:
            validation["classes_with_fewer"] = short.tolist()
    elif sources.val is not None:
        val, validation = sources.val.take(), {"rule": "the source's own validation split"}
    else:
        val, validation = None, {"rule": "none"}
    return LongTailData(
        name=name,
        classes=names,
        train=sources.train.take(draw.train),
        val=val,
        test=sources.test.take(),
        facts={
            **facts,
            "draw": "LDAM-DRW: RandomState(0), classes in order, first n_j of the shuffled indices",
            "source": sources.kind,
            "validation": validation,
        },
    )
