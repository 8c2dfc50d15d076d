"""What is public knowledge of a large long-tailed dataset, and where a user's copy of it lies.

The images of these sets cannot be shipped: a set is its public list files (sizes and checksums in
:mod:`lt_bench.data.public_lists`) and a folder of images that the lists' paths start from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lt_bench.data.dataset import LongTailData
from lt_bench.data.image_list import ListText, image_folder, listed_data
from lt_bench.data.listing import read_bytes
from lt_bench.data.sources.find import places
from lt_bench.errors import LTBenchError

# Decoupling's repository (Kang et al., 2020), BSD licence, at the commit that has the lists.
DECOUPLING = (
    "https://raw.githubusercontent.com/facebookresearch/classifier-balancing/"
    "22370c64141cc662f62ead89447c838c4a7977b5/data"
)


@dataclass(frozen=True)
class PublicSet:
    """The facts of one set.

    Attributes:
        name: the registered name.
        title: the name in print.
        folder: what the field's code calls the folder of its lists.
        lists: the list file of each split there is.
        num_classes: C.
        sizes: images of each split.
        smallest: the least training images of a class.
        largest: the most.
        groups: many-, medium- and few-shot classes under each convention that is known.
        lists_at: the address that the list files lie below.
        lists_from: who published the lists, in words.
        images_from: where the images are to be had, in words; nobody else may hand them on.
        layout: what stands below the image root.
    """

    name: str
    title: str
    folder: str
    lists: Mapping[str, str]
    num_classes: int
    sizes: Mapping[str, int]
    smallest: int
    largest: int
    groups: Mapping[str, tuple[int, int, int]]
    lists_at: str
    lists_from: str
    images_from: str
    layout: str


def find_root(public: PublicSet, root: str | os.PathLike[str] | None) -> Path:
    """The image root: what the user named, else the set's folder in ``$LT_BENCH_DATA`` (or ``./data``).

    Raises:
        LTBenchError: there is no such folder; the sentence says what to set.
    """
    if root is not None:
        return image_folder(root)
    looked = list(dict.fromkeys(places(None, name)[0] for name in (public.name, public.folder)))
    for place in looked:
        if place.is_dir():
            return place
    raise LTBenchError(
        f"no {public.title} in {' or '.join(map(str, looked))}: set dataset.root to the folder of its images "
        f"({public.layout}), or the environment variable LT_BENCH_DATA; they are to be had at "
        f"{public.images_from}"
    )


def list_folders(public: PublicSet, root: Path, lists: str | os.PathLike[str] | None) -> list[Path]:
    """The folders that may hold the list files, in order.

    Args:
        public: the set.
        root: the image root.
        lists: the folder that the user named; without one, the root, the set's folder in or beside
            it, and in ``$LT_BENCH_DATA`` (or ``./data``), where the field's code keeps its lists.
    """
    if lists is not None:
        return [Path(lists).expanduser()]
    base = places(None, public.folder)[1]
    found = [root, *(near / public.folder for near in (root, root.parent, base)), base / public.name]
    return list(dict.fromkeys(found))


def find_lists(
    public: PublicSet, root: Path, lists: str | os.PathLike[str] | None = None
) -> dict[str, Path] | None:
    """The list file of every split in the first folder that has the training list, or None."""
    for folder in list_folders(public, root, lists):
        if (folder / public.lists["train"]).is_file():
            return {part: folder / file for part, file in public.lists.items()}
    return None


def read_lists(
    public: PublicSet, root: Path, lists: str | os.PathLike[str] | None = None
) -> dict[str, ListText]:
    """The lists of a user's copy.

    Raises:
        LTBenchError: there are none, or one cannot be read.
    """
    found = find_lists(public, root, lists)
    if found is None:
        looked = " or ".join(map(str, list_folders(public, root, lists)))
        raise LTBenchError(
            f"no {public.lists['train']} in {looked}; set dataset.lists to the folder of the list files, or "
            f"fetch them with lt-bench data prepare {public.name}"
        )
    return {part: ListText(file, read_bytes(file)) for part, file in found.items()}


def public_data(
    public: PublicSet,
    root: Path,
    texts: Mapping[str, ListText],
    *,
    check_files: bool,
    require_public: bool,
    undecodable: str,
    source: str = "image list",
) -> LongTailData:
    """The dataset of a user's copy.

    Args:
        public: the set.
        root: the image root.
        texts: its lists.
        check_files: look for every image now instead of failing in the middle of an epoch.
        require_public: refuse lists that are not byte for byte the public ones; False lets a smaller
            copy in, with the classes that its lists name.
        undecodable: ``"stop"`` or ``"skip"``, see :func:`lt_bench.data.image_list.listed_data`.
        source: what the facts say the lists were read from.

    Raises:
        LTBenchError: see :func:`lt_bench.data.image_list.image_list`.
    """
    return listed_data(
        public.name,
        root,
        texts,
        num_classes=public.num_classes if require_public else None,
        check_files=check_files,
        require_public=require_public,
        expected=public.lists,
        undecodable=undecodable,
        source=source,
    )
