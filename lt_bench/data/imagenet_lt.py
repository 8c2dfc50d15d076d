"""ImageNet-LT (Liu et al., 2019): 1000 classes of ImageNet with 1280 down to 5 training images.

Train and validation are drawn from ImageNet's training images, test is ILSVRC 2012's validation set.
Sizes and groups are those of the public lists (of ``OpenLongTailRecognition-OLTR``, and again in
``classifier-balancing``); a test counts them.
"""

from __future__ import annotations

import os

from lt_bench.data.dataset import LongTailData
from lt_bench.data.image_list import refuse_setting
from lt_bench.data.public_set import DECOUPLING, PublicSet, find_root, public_data, read_lists
from lt_bench.registry import DATASETS

IMAGENET_LT = PublicSet(
    name="imagenet_lt",
    title="ImageNet-LT",
    folder="ImageNet_LT",
    lists={
        "train": "ImageNet_LT_train.txt",
        "val": "ImageNet_LT_val.txt",
        "test": "ImageNet_LT_test.txt",
    },
    num_classes=1000,
    sizes={"train": 115_846, "val": 20_000, "test": 50_000},
    smallest=5,
    largest=1280,
    groups={"paper": (385, 469, 146), "strict": (385, 479, 136), "inclusive": (391, 463, 146)},
    lists_at=f"{DECOUPLING}/ImageNet_LT",
    lists_from="linked from https://github.com/zhmiao/OpenLongTailRecognition-OLTR, and in "
    "https://github.com/facebookresearch/classifier-balancing",
    images_from="https://image-net.org/download.php, after signing its terms: ILSVRC 2012, training and "
    "validation images (task 1 and 2)",
    layout="train/<wnid>/*.JPEG and val/<wnid>/*.JPEG",
)


@DATASETS.register_module(name="imagenet_lt")
def imagenet_lt(
    root: str | os.PathLike[str] | None,
    lists: str | os.PathLike[str] | None = None,
    check_files: bool = True,
    require_public: bool = True,
    undecodable: str = "stop",
) -> LongTailData:
    """ImageNet-LT: 1000 classes, 115,846 / 20,000 / 50,000 images, 1280 down to 5 a class.

    Args:
        root: the folder with ``train/<wnid>`` and ``val/<wnid>``; None takes ``imagenet_lt`` or
            ``ImageNet_LT`` in ``$LT_BENCH_DATA`` (or ``./data``).
        lists: the folder with ``ImageNet_LT_{train,val,test}.txt``; by default the root, or
            ``ImageNet_LT`` in it, beside it, or in ``$LT_BENCH_DATA`` (or ``./data``).
        check_files, require_public, undecodable: see :func:`lt_bench.data.public_set.public_data`.

    Raises:
        LTBenchError: no root, no lists, other lists than the public ones, or what
            :func:`lt_bench.data.image_list.image_list` refuses.
    """
    refuse_setting(undecodable)
    folder = find_root(IMAGENET_LT, root)
    return public_data(
        IMAGENET_LT,
        folder,
        read_lists(IMAGENET_LT, folder, lists),
        check_files=check_files,
        require_public=require_public,
        undecodable=undecodable,
    )
