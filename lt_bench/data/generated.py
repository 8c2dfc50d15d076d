"""generated_lt: images drawn from a generator under given class counts, to rehearse a run at real size.

Nothing is learnt about a method here: the images are noise over a faint pattern of their class. What is real
is how many there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lt_bench.arguments import is_whole
from lt_bench.data.class_counts import class_counts
from lt_bench.data.dataset import LongTailData
from lt_bench.data.images import ImageSet
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

# Grey levels: a class's pattern and the noise of an image, about a mean of 128.
_PATTERN, _NOISE = 32.0, 24.0
# Images that are drawn at a time, so that the floats of few of them are held.
_CHUNK = 8192


@DATASETS.register_module(name="generated_lt")
def generated_lt(
    counts: str | list[int],
    image_size: int = 8,
    channels: int = 3,
    test_per_class: int | None = None,
    seed: int = 0,
) -> LongTailData:
    """Generated images under the class counts of a real dataset.

    Args:
        counts: ``imagenet_lt``, ``places_lt``, ``inaturalist2018``, a file with one count a line, or counts.
        image_size: height and width in pixels.
        channels: of an image.
        test_per_class: test images of every class; None is as many as the dataset of that name has.
        seed: of patterns and noise.

    Raises:
        LTBenchError: unknown counts, or a size, a number of channels or of images below 1.
    """
    if isinstance(counts, str):
        known = class_counts(counts)
        sizes, source = list(known.counts), known.source
        if test_per_class is None:
            test_per_class = known.test_per_class
    else:
        sizes, source = counts, "given"
        if test_per_class is None:
            test_per_class = 10
    if not all(is_whole(size, 1) for size in sizes) or not sizes:
        raise LTBenchError(f"counts are whole numbers from 1, one a class; got {str(sizes)[:60]}")
    for name, value in (
        ("image_size", image_size),
        ("channels", channels),
        ("test_per_class", test_per_class),
    ):
        if not is_whole(value, 1):
            raise LTBenchError(f"generated_lt's {name} is a whole number from 1, got {value!r}")
    draw = torch.Generator().manual_seed(seed)
    shape = (channels, image_size, image_size)
    patterns = torch.randn(len(sizes), *shape, generator=draw).mul_(_PATTERN).add_(128.0)
    classes = torch.arange(len(sizes))

    def split(per_class: Tensor) -> ImageSet:
        labels = classes.repeat_interleave(per_class)
        images = torch.empty(len(labels), *shape, dtype=torch.uint8)
        for first in range(0, len(labels), _CHUNK):
            drawn = labels[first : first + _CHUNK]
            noise = torch.randn(len(drawn), *shape, generator=draw)
            images[first : first + _CHUNK] = patterns[drawn].add_(noise, alpha=_NOISE).clamp_(0, 255)
        return ImageSet(images, labels)

    return LongTailData(
        name="generated_lt",
        classes=tuple(map(str, range(len(sizes)))),
        train=split(torch.tensor(sizes)),
        val=None,
        test=split(torch.full((len(sizes),), test_per_class)),
        facts={
            "profile": source,
            "draw": f"noise over a pattern of the class, seed {seed}",
            "source": "generated",
            "validation": {"rule": "none"},
        },
    )
