"""iNaturalist 2018 (Van Horn et al., 2018): 8142 species with 1000 down to 2 training images.

It has train and validation images only: the validation list is the test split here, as in all of the
field, and there is no validation split to choose anything on. Sizes and groups are those of the lists
that Kang et al. (2020) made of the official JSON. Papers quote 8141 classes; both have 8142.

The official JSON gives the same data as the lists: its ``images`` in their order, each with the
``category_id`` of its annotation, are the lines of the public list, byte for byte, and are checked
as such.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lt_bench.data.dataset import LongTailData
from lt_bench.data.image_list import ListText, refuse_setting
from lt_bench.data.listing import read_bytes
from lt_bench.data.public_set import DECOUPLING, PublicSet, find_lists, find_root, public_data, read_lists
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

INATURALIST2018 = PublicSet(
    name="inaturalist2018",
    title="iNaturalist 2018",
    folder="iNaturalist18",
    lists={"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"},
    num_classes=8142,
    sizes={"train": 437_513, "test": 24_426},
    smallest=2,
    largest=1000,
    groups={"strict": (842, 4076, 3224)},
    lists_at=f"{DECOUPLING}/iNaturalist18",
    lists_from="in https://github.com/facebookresearch/classifier-balancing, or use the official "
    "train2018.json and val2018.json",
    images_from="https://github.com/visipedia/inat_comp/tree/master/2018: training and validation images "
    "(train_val2018) and, instead of the lists, their annotations",
    layout="train_val2018/<supercategory>/<category>/*.jpg",
)
ANNOTATIONS = {"train": "train2018.json", "test": "val2018.json"}


@DATASETS.register_module(name="inaturalist2018")
def inaturalist2018(
    root: str | os.PathLike[str] | None,
    lists: str | os.PathLike[str] | None = None,
    check_files: bool = True,
    require_public: bool = True,
    undecodable: str = "stop",
    annotations: str | os.PathLike[str] | None = None,
) -> LongTailData:
    """iNaturalist 2018: 8142 classes, 437,513 / 24,426 images, 1000 down to 2 a class.

    Args:
        root: the folder with ``train_val2018``; None takes ``inaturalist2018`` or ``iNaturalist18`` in
            ``$LT_BENCH_DATA`` (or ``./data``).
        lists: the folder with ``iNaturalist18_{train,val}.txt``; by default the root, or
            ``iNaturalist18`` in it, beside it, or in ``$LT_BENCH_DATA`` (or ``./data``).
        check_files, require_public, undecodable: see :func:`lt_bench.data.public_set.public_data`.
        annotations: the folder with the official ``train2018.json`` and ``val2018.json``, read instead
            of the lists; by default the root, where no list is found.

    Raises:
        LTBenchError: no root, neither lists nor annotations, others than the public ones, or what
            :func:`lt_bench.data.image_list.image_list` refuses.
    """
    refuse_setting(undecodable)
    folder = find_root(INATURALIST2018, root)
    texts = read_texts(folder, lists, annotations)
    return public_data(
        INATURALIST2018,
        folder,
        texts,
        check_files=check_files,
        require_public=require_public,
        undecodable=undecodable,
        source="official JSON" if texts["train"].file.suffix == ".json" else "image list",
    )


def read_texts(
    root: Path, lists: str | os.PathLike[str] | None, annotations: str | os.PathLike[str] | None
) -> dict[str, ListText]:
    """The lists, from list files or from the official JSON.

    Raises:
        LTBenchError: both are named, neither is there, or one cannot be read.
    """
    folder = annotation_folder(root, lists, annotations)
    if folder is None:
        return read_lists(INATURALIST2018, root, lists)
    return {part: list_of_json(folder / file) for part, file in ANNOTATIONS.items()}


def annotation_folder(
    root: Path, lists: str | os.PathLike[str] | None, annotations: str | os.PathLike[str] | None
) -> Path | None:
    """The folder of the official JSON, where that is what is read, else None.

    Raises:
        LTBenchError: lists and annotations are both named.
    """
    if lists is not None and annotations is not None:
        raise LTBenchError("iNaturalist 2018 is read from lists or from annotations; give one of them")
    if annotations is not None:
        return Path(annotations).expanduser()
    if lists is None and find_lists(INATURALIST2018, root) is None:
        return root if (root / ANNOTATIONS["train"]).is_file() else None
    return None


def list_of_json(file: Path) -> ListText:
    """An official annotation file as ``path label`` lines: its images in order, with their category.

    Raises:
        LTBenchError: it cannot be read, is no such file, or an image has no annotation or two.
    """
    content = read_bytes(file)
    try:
        held = json.loads(content)
        categories = _distinct(held["annotations"], file)
        lines = [f"{image['file_name']} {categories.pop(image['id'])}\n" for image in held["images"]]
        known = sorted(int(category["id"]) for category in held["categories"])
    except KeyError as error:
        raise LTBenchError(
            f"{file} has no {error.args[0]!r} where one is expected (an image without an annotation, or "
            "another file); fetch the annotations of iNaturalist 2018 again"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise LTBenchError(
            f"{file} is no annotation file of iNaturalist 2018 ({' '.join(str(error).split())[:120]}); "
            "expected is JSON with images, annotations and categories: fetch it again"
        ) from error
    if categories:
        raise LTBenchError(
            f"{file} annotates image {next(iter(categories))!r}, which it does not list, and "
            f"{len(categories) - 1} more; fetch it again"
        )
    if known != list(range(len(known))):
        raise LTBenchError(
            f"the categories of {file} are not numbered 0 to {len(known) - 1}, so they cannot be labels; "
            "use the file of 2018"
        )
    return ListText(file, "".join(lines).encode(), hashlib.sha256(content).hexdigest())


def _distinct(annotations: list[dict[str, Any]], file: Path) -> dict[Any, int]:
    """The category of each image id."""
    categories = {entry["image_id"]: int(entry["category_id"]) for entry in annotations}
    if len(categories) != len(annotations):
        raise LTBenchError(
            f"{file} annotates {len(annotations) - len(categories)} images twice; fetch it again"
        )
    return categories
