"""image_list: a user's own image files, named in ``path label`` lists.

The layout of ImageNet-LT, Places-LT and iNaturalist 2018 as their authors publish them: one
image a line, its path below the root and its label.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from lt_bench.data.classes import class_names, count_classes
from lt_bench.data.dataset import LongTailData
from lt_bench.data.images import ImageFiles
from lt_bench.data.public_lists import PUBLIC_LISTS, difference, public_name
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATASETS

_INTEGER = re.compile(r"-?[0-9]{1,18}")


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

    Raises:
        LTBenchError: a list that cannot be read, a line without a label, an image that is listed
            twice, stands in two splits or is missing, or a label out of range.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise LTBenchError(f"image root {folder} is no folder; set root to where the images lie")
    lists = {"train": train, "val": val, "test": test}
    files = {part: Path(file).expanduser() for part, file in lists.items() if file is not None}
    contents = {part: _content(file) for part, file in files.items()}
    splits = {part: _parse(contents[part], file, folder) for part, file in files.items()}
    _refuse_shared(splits)
    if check_files:
        for part, split in splits.items():
            _refuse_missing(split, files[part])
    names = _names(classes)
    if num_classes is None and names is not None:
        num_classes = len(names)
    elif num_classes is None:
        highest = (int(split.labels.max()) for split in splits.values() if len(split))
        num_classes = count_classes(highest, len(splits["train"]), name)
    return LongTailData(
        name=name,
        classes=class_names(names, num_classes, name),
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        facts={
            "draw": "none",
            "profile": "as given",
            "source": "image list",
            "lists": {
                part: _list_facts(files[part], content, require_public) for part, content in contents.items()
            },
            "validation": {"rule": "its own list" if val is not None else "none"},
        },
    )


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise LTBenchError(
            f"cannot read list {file}: {error.strerror or error}; name an existing file"
        ) from error


def _parse(content: bytes, file: Path, root: Path) -> ImageFiles:
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LTBenchError(f"list {file} is not UTF-8 text; it may be another file") from error
    seen: dict[str, int] = {}
    labels: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        path = path.strip()
        if not path or not _INTEGER.fullmatch(label):
            raise LTBenchError(
                f"line {number} of {file} must be 'path label' with an integer label, got {line[:80]!r}"
            )
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise LTBenchError(
                f"line {number} of {file} leaves the image root with {path!r}; write paths relative to root"
            )
        if path in seen:
            raise LTBenchError(
                f"image {path!r} stands twice in {file}, in lines {seen[path]} and {number}; take one off"
            )
        seen[path] = number
        labels.append(int(label))
    return ImageFiles(tuple(seen), torch.tensor(labels, dtype=torch.int64), root)


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
    missing = [path for path in split.paths if not (split.root / path).is_file()]
    if missing:
        raise LTBenchError(
            f"{len(missing)} of {len(split)} images listed in {file} are not below {split.root}, "
            f"the first is {missing[0]!r}; set root, restore them or take them off the list"
        )


def _names(classes: str | os.PathLike[str] | list[str] | None) -> list[str] | None:
    if classes is None or isinstance(classes, list):
        return classes
    lines = _content(Path(classes).expanduser()).decode("utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _list_facts(file: Path, content: bytes, require_public: bool) -> dict[str, Any]:
    public = public_name(content)
    if require_public and public is None:
        what = f"list {file} is none of the public ones ({', '.join(PUBLIC_LISTS)})"
        if file.name in PUBLIC_LISTS:
            what = f"list {file} is not the public one: {difference(file.name, content)}"
        raise LTBenchError(f"{what}; fetch it again, or leave require_public out")
    digest = hashlib.sha256(content).hexdigest()
    return {"file": file.name, "sha256": digest, "public": public}
