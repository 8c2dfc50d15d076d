"""Places-LT (Liu et al., 2019): 365 classes of Places365 with 4980 down to 5 training images.

Train and validation are drawn from Places365-Standard's training images, test from its validation set.
Sizes and groups are those of the public lists; a test counts them. Papers quote "184.5K" images for
Places-LT, which is not the size of the public split: 62,500 are used here.
"""

from __future__ import annotations

import os

from lt_bench.data.dataset import LongTailData
from lt_bench.data.image_list import refuse_setting
from lt_bench.data.public_set import DECOUPLING, PublicSet, find_root, public_data, read_lists
from lt_bench.registry import DATASETS

PLACES_LT = PublicSet(
    name="places_lt",
    title="Places-LT",
    folder="Places_LT",
    lists={
        "train": "Places_LT_train.txt",
        "val": "Places_LT_val.txt",
        "test": "Places_LT_test.txt",
    },
    num_classes=365,
    sizes={"train": 62_500, "val": 7_300, "test": 36_500},
    smallest=5,
    largest=4980,
    groups={"paper": (131, 157, 77), "strict": (131, 163, 71), "inclusive": (132, 156, 77)},
    lists_at=f"{DECOUPLING}/Places_LT",
    lists_from="linked from https://github.com/zhmiao/OpenLongTailRecognition-OLTR, and in "
    "https://github.com/facebookresearch/classifier-balancing",
    images_from="http://places2.csail.mit.edu/download.html: Places365-Standard, the small images "
    "(256 x 256) in the easy directory structure",
    layout="train/<scene>/*.jpg and val/<scene>/*.jpg",
)


@DATASETS.register_module(name="places_lt")
def places_lt(
    root: str | os.PathLike[str] | None,
    lists: str | os.PathLike[str] | None = None,
    check_files: bool = True,
    require_public: bool = True,
    undecodable: str = "stop",
) -> LongTailData:
    """Places-LT: 365 classes, 62,500 / 7,300 / 36,500 images, 4980 down to 5 a class.

    Args:
        root: the folder with ``train/<scene>`` and ``val/<scene>``; None takes ``places_lt`` or
            ``Places_LT`` in ``$LT_BENCH_DATA`` (or ``./data``).
        lists: the folder with ``Places_LT_{train,val,test}.txt``; by default the root, or
            ``Places_LT`` in it, beside it, or in ``$LT_BENCH_DATA`` (or ``./data``).
        check_files, require_public, undecodable: see :func:`lt_bench.data.public_set.public_data`.

    Raises:
        LTBenchError: no root, no lists, other lists than the public ones, or what
            :func:`lt_bench.data.image_list.image_list` refuses.
    """
    refuse_setting(undecodable)
    folder = find_root(PLACES_LT, root)
    return public_data(
        PLACES_LT,
        folder,
        read_lists(PLACES_LT, folder, lists),
        check_files=check_files,
        require_public=require_public,
        undecodable=undecodable,
    )
