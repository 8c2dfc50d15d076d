"""image_list: a user's own image files, named in ``path label`` lists.

The layout of ImageNet-LT, Places-LT and iNaturalist 2018 as their authors publish them: one
image a line, its path below the root and its label.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lt_bench.data.classes import class_names, number_of_classes
from lt_bench.data.dataset import LongTailData
from lt_bench.data.decoding import decode_faults
from lt_bench.data.images import ImageFiles
from lt_bench.data.listing import parse_list, read_bytes
from lt_bench.data.public_lists import PUBLIC_LISTS, difference, public_name
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

UNDECODABLE = ("stop", "skip")


@dataclass(frozen=True)
class ListText:
    """The list of one split.

    Attributes:
        file: where it was read from.
        content: lines of ``path label``.
        sha256: hex, of the file; None where that is ``content`` itself.
    """

    file: Path
    content: bytes
    sha256: str | None = None


@DATASETS.register_module(name="image_list")
def image_list(
    root: str | os.PathLike[str],
    train: str | os.PathLike[str],
    test: str | os.PathLike[str],
    val: str | os.PathLike[str] | None = None,
    name: str = "image_list",
    num_classes: int | None = None,
    classes: str | os.PathLike[str] | list[str] | None = None,
    check_files: bool = True,
    require_public: bool = False,
    undecodable: str = "stop",
) -> LongTailData:
    """Images in files below ``root``, decoded by workers while training.

    Args:
        root: the folder that the lists' paths start from.
        train: list file of the long-tailed training split.
        test: list file of the test split.
        val: list file of the validation split, if there is one.
        name: what the record calls the set, e.g. ``"imagenet_lt"``.
        num_classes: C; by default the highest label plus one.
        classes: names, or a file with one a line; by default the indices.
        check_files: look for every image now instead of failing in the middle of an epoch.
        require_public: refuse lists that are not byte for byte the published ones.
        undecodable: ``"stop"`` or ``"skip"``, see :func:`listed_data`.

    Raises:
        LTBenchError: a list that cannot be read, a line without a label, an image that is listed
            twice, stands in two splits or is missing, or a label out of range.
    """
    lists = {"train": train, "val": val, "test": test}
    files = {part: Path(file).expanduser() for part, file in lists.items() if file is not None}
    refuse_setting(undecodable)
    folder = image_folder(root)
    texts = {part: ListText(file, read_bytes(file)) for part, file in files.items()}
    return listed_data(
        name,
        folder,
        texts,
        num_classes=num_classes,
        names=_names(classes),
        check_files=check_files,
        require_public=require_public,
        undecodable=undecodable,
    )


def refuse_setting(undecodable: str) -> None:
    """Refuse a value of ``undecodable`` that means nothing.

    Raises:
        LTBenchError: it is neither ``"stop"`` nor ``"skip"``.
    """
    if undecodable not in UNDECODABLE:
        raise LTBenchError(f"undecodable is {' or '.join(map(repr, UNDECODABLE))}, got {undecodable!r}")


def image_folder(root: str | os.PathLike[str]) -> Path:
    """The image root.

    Raises:
        LTBenchError: there is no such folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise LTBenchError(f"image root {folder} is no folder; set root to where the images lie")
    return folder


def listed_data(
    name: str,
    root: Path,
    texts: Mapping[str, ListText],
    *,
    num_classes: int | None = None,
    names: list[str] | None = None,
    check_files: bool = True,
    require_public: bool = False,
    expected: Mapping[str, str] | None = None,
    undecodable: str = "stop",
    source: str = "image list",
) -> LongTailData:
    """The dataset that lists describe.

    What cannot be decoded is found before training, not in the middle of it: ``"skip"`` decodes every
    image once, by threads, takes the training images that fail off the split, and says how many and
    which in ``facts``. So an epoch still shows each index of the split once, which snapshots rely on;
    training counts and shot groups are of what is trained on; the data's identity and the run's record
    tell this training set from the whole one; and a resumed run sees the same split. A fault in a
    validation or test image stops under either setting: every score is of the whole split. An image
    that is missing, or that the disk does not give, is not undecodable and always stops.

    Args:
        name: of the dataset.
        root: the folder that the lists' paths start from.
        texts: the lists of ``train``, ``test`` and perhaps ``val``.
        num_classes: C; by default as many as ``names``, else the highest label plus one.
        names: of the classes; by default the indices.
        check_files: look for every image now.
        require_public: refuse lists that are not byte for byte published ones.
        expected: which public list each split must be, where not just any will do.
        undecodable: ``"stop"``, where a loader meets such an image, or ``"skip"``.
        source: what the facts say the lists were read from.

    Raises:
        LTBenchError: see :func:`image_list`.
    """
    refuse_setting(undecodable)
    list_facts = {
        part: _list_facts(text, require_public, (expected or {}).get(part)) for part, text in texts.items()
    }
    splits = {part: _split(text, root) for part, text in texts.items()}
    _refuse_shared(splits)
    if check_files or undecodable == "skip":
        for part, split in splits.items():
            _refuse_missing(split, texts[part].file)
    if num_classes is None and names is not None:
        num_classes = len(names)
    elif num_classes is None:
        highest = (int(split.labels.max()) for split in splits.values() if len(split))
        num_classes = number_of_classes(highest, len(splits["train"]), name)
    evaluation = "no validation or test image is left out: one that cannot be decoded stops the run"
    decoding: dict[str, Any] = {"setting": undecodable, "evaluation": evaluation}
    if undecodable == "skip":
        splits["train"], decoding["train"] = _decodable(splits)
        decoding["skipped"] = len(decoding["train"])
    return LongTailData(
        name=name,
        classes=class_names(names, num_classes, name),
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        facts={
            "draw": "none",
            "profile": "as given",
            "source": source,
            "lists": list_facts,
            "validation": {"rule": "its own list" if "val" in texts else "none"},
            "undecodable": decoding,
        },
    )


def _split(text: ListText, root: Path) -> ImageFiles:
    listing = parse_list(text.content, text.file)
    if listing.faults:
        raise LTBenchError(listing.faults[0].sentence)
    return ImageFiles(tuple(listing.paths), torch.tensor(listing.labels, dtype=torch.int64), root)


def _decodable(splits: dict[str, ImageFiles]) -> tuple[ImageFiles, dict[str, str]]:
    """The training split without what cannot be decoded, and the paths left out with the reasons."""
    train = splits["train"]
    for part, split in splits.items():
        faults = decode_faults(split.root, split.paths)
        if part == "train":
            skipped = {train.paths[place]: reason for place, reason in faults.items()}
        elif faults:
            place, reason = next(iter(faults.items()))
            raise LTBenchError(
                f"{len(faults)} images of the {part} split cannot be decoded, the first is "
                f"{split.root / split.paths[place]} ({reason}); restore them: undecodable='skip' leaves out "
                "training images only, a score is of the whole split"
            )
    if not skipped:
        return train, skipped
    kept = [place for place, path in enumerate(train.paths) if path not in skipped]
    return ImageFiles(tuple(train.paths[place] for place in kept), train.labels[kept], train.root), skipped


def _refuse_shared(splits: dict[str, ImageFiles]) -> None:
    """An image in two splits would be learned from and tested on."""
    owners: dict[str, str] = {}
    for part, split in splits.items():
        for path in split.paths:
            if (other := owners.setdefault(path, part)) != part:
                raise LTBenchError(
                    f"image {path!r} stands in both the {other} and the {part} list; "
                    "the splits must be disjoint, leave val out if it is the test list"
                )


def _refuse_missing(split: ImageFiles, file: Path) -> None:
    missing = (split.sizes < 0).nonzero().flatten()
    if len(missing):
        raise LTBenchError(
            f"{len(missing)} of {len(split)} images listed in {file} are not below {split.root}, "
            f"the first is {split.paths[int(missing[0])]!r}; set root, restore them or take them off the list"
        )


def _names(classes: str | os.PathLike[str] | list[str] | None) -> list[str] | None:
    if classes is None or isinstance(classes, list):
        return classes
    lines = read_bytes(Path(classes).expanduser()).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _list_facts(text: ListText, require_public: bool, expected: str | None) -> dict[str, Any]:
    public = public_name(text.content)
    if require_public and (public is None or public != (expected or public)):
        known = expected or (text.file.name if text.file.name in PUBLIC_LISTS else None)
        if known is None:
            what = f"list {text.file} is none of the public ones ({', '.join(PUBLIC_LISTS)})"
        elif public is not None:
            what = f"list {text.file} is the public {public}, expected is {known}"
        else:
            what = f"list {text.file} is not the public one: {difference(known, text.content)}"
        raise LTBenchError(
            f"{what}; fetch it again, or set dataset.require_public=false for lists of your own"
        )
    digest = text.sha256 or hashlib.sha256(text.content).hexdigest()
    return {"file": text.file.name, "sha256": digest, "public": public}
