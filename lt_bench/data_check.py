"""``lt-bench data check``: which dataset is checked how, and the report as tables and as JSON.

The checks themselves are in :mod:`lt_bench.data.checking`; here the classes are cut into shot groups.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from lt_bench.arguments import is_whole
from lt_bench.data.checking import Finding, Report, SplitReport, check_lists
from lt_bench.data.dataset import LongTailData
from lt_bench.data.image_list import ListText
from lt_bench.data.imagenet_lt import IMAGENET_LT
from lt_bench.data.images import ImageSet
from lt_bench.data.inaturalist2018 import ANNOTATIONS, INATURALIST2018, annotation_folder, list_of_json
from lt_bench.data.listing import read_bytes
from lt_bench.data.places_lt import PLACES_LT
from lt_bench.data.public_set import PublicSet, find_root, list_folders
from lt_bench.errors import LTBenchError, near_names
from lt_bench.evaluation.shots import GROUPS, shot_groups
from lt_bench.registry import DATASETS

PUBLIC_SETS = {public.name: public for public in (IMAGENET_LT, PLACES_LT, INATURALIST2018)}
# Examples of each kind that the printed table names; the JSON has all.
FEW = 3
# More than any list has; counts of so many are still held in memory.
MOST_CLASSES = 10**7

Place = str | os.PathLike[str] | None


def public_set(name: str) -> PublicSet:
    """The large public set called ``name``.

    Raises:
        LTBenchError: there is none.
    """
    if name not in PUBLIC_SETS:
        raise LTBenchError(f"no public lists belong to dataset {name!r}: {near_names(name, PUBLIC_SETS)}")
    return PUBLIC_SETS[name]


def check_copy(
    name: str,
    root: Place = None,
    *,
    lists: Place = None,
    annotations: Place = None,
    own_lists: bool = False,
    decode: bool = False,
    hash_content: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Report:
    """Check a user's copy of a registered dataset.

    ImageNet-LT, Places-LT, iNaturalist 2018 and ``image_list`` are checked image by image. Any other
    set is checked by reading it, which stops at its first fault.

    Args:
        name: of the dataset.
        root: as the dataset takes it.
        lists: folder of the list files.
        annotations: folder of iNaturalist's official JSON.
        own_lists: the lists need not be the public ones.
        decode: decode every image.
        hash_content: look for images with equal bytes.
        options: further arguments of the dataset, such as the ``train`` and ``test`` of ``image_list``.

    Raises:
        LTBenchError: no such dataset, arguments that it does not take, or no place to look in.
    """
    given = dict(options or {})
    if name in PUBLIC_SETS:
        if given:
            raise LTBenchError(f"data check {name} takes no --cfg-options; got {', '.join(given)}")
        public = PUBLIC_SETS[name]
        folder = Path(root).expanduser() if root is not None else find_root(public, None)
        return check_lists(
            name,
            folder,
            _texts(public, folder, lists, annotations),
            num_classes=None if own_lists else public.num_classes,
            public=None if own_lists else public.lists,
            sizes=public.sizes,
            folders_are_classes=True,
            decode=decode,
            hash_content=hash_content,
        )
    if lists is not None or annotations is not None or own_lists:
        raise LTBenchError(
            f"dataset {name!r} has no public lists; leave out --lists, --annotations, --own-lists"
        )
    if root is not None:
        given["root"] = os.fspath(root)
    try:
        inspect.signature(DATASETS.get(name)).bind(**given)
    except TypeError as error:
        raise LTBenchError(f"dataset {name!r}: {error}; give others with --cfg-options") from error
    needed = ("root", "train", "test") if name == "image_list" else ()
    for key in ("root", "path", "train", "val", "test"):
        value = given.get(key)
        named = isinstance(value, (str, os.PathLike)) and os.fspath(value)
        if not named and (value is not None or key in needed):
            raise LTBenchError(f"{key} is a path (./7, not 7), got {value!r}")
    classes = given.get("num_classes")
    if classes is not None and not (is_whole(classes, 1) and classes <= MOST_CLASSES):
        raise LTBenchError(f"num_classes is a whole number from 1 to {MOST_CLASSES}, got {classes!r}")
    if name == "image_list":
        files = {
            part: Path(str(given[part])).expanduser() for part in ("train", "val", "test") if given.get(part)
        }
        texts = {part: _attempt(_list_file, file) for part, file in files.items()}
        return check_lists(
            name,
            Path(given["root"]).expanduser(),
            texts,
            num_classes=given.get("num_classes"),
            decode=decode,
            hash_content=hash_content,
        )
    return _check_by_reading(name, given, hash_content)


def _texts(
    public: PublicSet, root: Path, lists: Place, annotations: Place
) -> dict[str, ListText | LTBenchError]:
    if public is INATURALIST2018:
        official = annotation_folder(root, lists, annotations)
        if official is not None:
            return {part: _attempt(list_of_json, official / file) for part, file in ANNOTATIONS.items()}
    elif annotations is not None:
        raise LTBenchError(f"{public.title} has lists only; leave out --annotations")
    looked = list_folders(public, root, lists)
    holding = (f for f in looked if any((f / file).is_file() for file in public.lists.values()))
    folder = next(holding, looked[0])
    return {part: _attempt(_list_file, folder / file) for part, file in public.lists.items()}


def _list_file(file: Path) -> ListText:
    return ListText(file, read_bytes(file))


def _attempt(read: Callable[[Path], ListText], file: Path) -> ListText | LTBenchError:
    try:
        return read(file)
    except LTBenchError as error:
        return error


def _check_by_reading(name: str, given: dict[str, Any], hash_content: bool) -> Report:
    root = Path(given["root"]).expanduser() if given.get("root") else None
    looked = "everything that building the dataset reads"
    try:
        data = DATASETS.build({"type": name, **given})
    except LTBenchError as error:
        return Report(name, root, {}, [Finding("unreadable", "", name, str(error))], looked)
    except (TypeError, ValueError) as error:
        raise LTBenchError(
            f"dataset {name!r} does not take these options ({error}); correct --cfg-options"
        ) from error
    findings = _same_pixels(data) if hash_content else []
    return Report(name, root, {part: _whole(data, part) for part in data.splits()}, findings, looked)


def _same_pixels(data: LongTailData) -> list[Finding]:
    """Images of a set in memory whose pixels another one has, in its own split or another."""
    seen: dict[bytes, str] = {}
    found = []
    for part, split in data.splits().items():
        if not isinstance(split, ImageSet):
            continue
        for place, pixels in enumerate(split.images.flatten(1).numpy()):
            item = f"image {place} of {part}"
            first = seen.setdefault(hashlib.blake2b(pixels.tobytes()).digest(), item)
            if first != item:
                found.append(Finding("same content", part, item, f"has the pixels of {first}"))
    return found


def _whole(data: LongTailData, part: str) -> SplitReport:
    counts = torch.bincount(data.splits()[part].labels.cpu(), minlength=data.num_classes)
    source = str(data.facts.get("source", "its own"))
    return SplitReport(source, "own", None, counts, counts, counts)


def _by_group(report: Report, convention: str) -> dict[str, dict[str, Any]]:
    """Classes and images of each shot group; empty where there is no training split to cut by."""
    train = report.splits.get("train")
    if train is None or not int(train.listed.sum()):
        return {}
    groups = shot_groups(train.listed, convention)
    expected = PUBLIC_SETS[report.dataset].groups.get(convention) if _is_public(report) else None

    def images(split: SplitReport, of_group: Tensor) -> dict[str, int]:
        kinds = ("listed", "present", "sound")
        return {kind: int(getattr(split, kind)[of_group].sum()) for kind in kinds}

    return {
        group: {
            "classes": int((groups == place).sum()),
            "expected_classes": expected[place] if expected else None,
            "images": {part: images(split, groups == place) for part, split in report.splits.items()},
        }
        for place, group in enumerate(GROUPS)
    }


def _is_public(report: Report) -> bool:
    return report.dataset in PUBLIC_SETS and all(s.version != "own" for s in report.splits.values())


def report_json(report: Report, convention: str) -> dict[str, Any]:
    """Everything that was found, as plain data."""
    return {
        "dataset": report.dataset,
        "root": None if report.root is None else str(report.root),
        "sound": report.sound,
        "looked": report.looked,
        "faults": dict(report.faults),
        "splits": {
            part: {
                "list": split.source,
                "version": split.version,
                "expected": split.expected,
                "listed": int(split.listed.sum()),
                "present": int(split.present.sum()),
                "sound": int(split.sound.sum()),
            }
            for part, split in report.splits.items()
        },
        "convention": convention,
        "groups": _by_group(report, convention),
        "hints": report.hints,
        "findings": [finding._asdict() for finding in report.findings],
    }


def report_text(report: Report, convention: str) -> str:
    """The report as tables for a terminal or a file."""
    held = report_json(report, convention)
    where = f" in {report.root}" if report.root is not None else ""
    parts = [
        f"{report.dataset}{where}: {'sound' if report.sound else 'NOT sound'} (looked at: {report.looked})"
    ]
    rows = [
        [part, split["list"], split["version"], split["expected"], *(split[k] for k in _COUNTS)]
        for part, split in held["splits"].items()
    ]
    if rows:
        parts.append(_table(rows, ["split", "list", "version", "expected", "listed", "there", "sound"]))
    if held["groups"]:
        parts.append(_group_table(held["groups"], convention))
    if report.findings:
        parts.append(_finding_table(report.findings))
    parts += report.hints
    if not report.sound and report.dataset in PUBLIC_SETS:
        public = PUBLIC_SETS[report.dataset]
        parts.append(
            f"images: {public.images_from}; below the root stand {public.layout}\n"
            f"lists: {public.lists_from}; lt-bench data prepare {public.name} fetches them"
        )
    return "\n\n".join(parts)


_COUNTS = ("listed", "present", "sound")


def _group_table(groups: Mapping[str, Any], convention: str) -> str:
    splits = list(next(iter(groups.values()))["images"])
    rows = [
        [
            group,
            held["classes"],
            held["expected_classes"],
            *(f"{images['sound']} of {images['listed']}" for images in held["images"].values()),
        ]
        for group, held in groups.items()
    ]
    return _table(
        rows, [f"group ({convention})", "classes", "expected", *(f"{part}, sound" for part in splits)]
    )


def _finding_table(findings: list[Finding]) -> str:
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.kind, finding.split), []).append(finding)
    rows = []
    for (kind, split), alike in grouped.items():
        for place, finding in enumerate(alike[:FEW]):
            what = (
                f"{finding.item}: {finding.detail}" if finding.item not in finding.detail else finding.detail
            )
            rows.append([kind, split, len(alike), what] if place == 0 else ["", "", "", what])
        if len(alike) > FEW:
            rows.append(["", "", "", f"and {len(alike) - FEW} more (--json names all)"])
    return _table(rows, ["finding", "split", "number", "which"])


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    # Not wrapped: a path is there to be copied.
    return tabulate(rows, headers=headers, tablefmt="simple", missingval="")
