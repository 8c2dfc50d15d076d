"""Checking a user's copy of a dataset of image files: everything that is wrong with it, not the first.

Building a dataset stops at the first fault. A report tells all: lists that are missing or of another
version, lines that cannot stand, images that are missing, truncated or listed twice, labels that
contradict the folders. It knows nothing of how it is shown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lt_bench.data.content import content_faults, same_content
from lt_bench.data.image_list import ListText
from lt_bench.data.image_tree import file_sizes
from lt_bench.data.listing import Listing, parse_list
from lt_bench.data.public_lists import difference, public_name
from lt_bench.errors import LTBenchError

# The kinds of findings, in the order in which they are told. Equal content is told and is no fault:
# the public sets themselves hold some images twice.
KINDS = (
    "unreadable",
    "missing list",
    "wrong version",
    "malformed line",
    "duplicated",
    "mislabelled",
    "missing root",
    "missing image",
    "truncated",
    "undecodable",
    "same content",
)
NO_FAULTS = ("same content",)


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: one of :data:`KINDS`.
        split: ``train``, ``val`` or ``test``; empty where it is of none.
        item: the path or file that it is about.
        detail: what was expected and what came.
    """

    kind: str
    split: str
    item: str
    detail: str


@dataclass(frozen=True)
class SplitReport:
    """One split of a copy.

    Attributes:
        source: name of the list file, or of what the split was read from.
        version: ``"public"``, ``"another"``, ``"missing"``, or ``"own"`` where none is expected.
        expected: images of the public split, None where none is known.
        listed: (C,) int64, images that the list names, by class.
        present: (C,) int64, those of which a file is there.
        sound: (C,) int64, those in which no fault was found.
    """

    source: str
    version: str
    expected: int | None
    listed: Tensor
    present: Tensor
    sound: Tensor


@dataclass(frozen=True)
class Report:
    """What was found in a copy.

    Attributes:
        dataset: its name.
        root: where it was looked for; None for a set that has no root.
        splits: by name, in the order train, val, test.
        findings: in the order of :data:`KINDS`, then of the lists.
        looked: what was looked at inside the files.
        hints: sentences on what may lie behind the findings.
    """

    dataset: str
    root: Path | None
    splits: dict[str, SplitReport]
    findings: list[Finding]
    looked: str
    hints: list[str] = field(default_factory=list)

    @property
    def faults(self) -> Counter[str]:
        """How many findings of each kind there are that make the copy unsound."""
        counted = Counter(finding.kind for finding in self.findings if finding.kind not in NO_FAULTS)
        return Counter({kind: counted[kind] for kind in KINDS if counted[kind]})

    @property
    def sound(self) -> bool:
        """Whether the copy is as it should be."""
        return not self.faults

    def summary(self) -> str:
        """One sentence on an unsound copy."""
        told = ", ".join(f"{kind} ({count})" for kind, count in self.faults.items())
        where = f" in {self.root}" if self.root is not None else ""
        return f"{self.dataset}{where} is not sound: {told}; the report names each and says what to do"


def check_lists(
    dataset: str,
    root: Path,
    texts: Mapping[str, ListText | LTBenchError],
    *,
    num_classes: int | None = None,
    public: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    folders_are_classes: bool = False,
    decode: bool = False,
    hash_content: bool = False,
) -> Report:
    """Check lists and the images that they name.

    Args:
        dataset: its name.
        root: the image root; need not exist.
        texts: the list of each split, or why there is none.
        num_classes: C; by default as many as the lists name.
        public: the public list that each split should be, byte for byte; None where any will do.
        sizes: images of each public split.
        folders_are_classes: whether all images of a folder, below the first, have one label and all of
            a label one folder, over all splits.
        decode: decode every image; without it both ends of each JPEG are looked at.
        hash_content: look for files with equal bytes.

    Raises:
        LTBenchError: a folder below the root cannot be read.
    """
    findings: list[Finding] = []
    listings: dict[str, Listing] = {}
    versions: dict[str, str] = {}
    for part, text in texts.items():
        listings[part], versions[part], found = _read(part, text, (public or {}).get(part))
        findings += found
    if num_classes is None:
        num_classes = _named_classes(listings)
    findings += _shared(listings)
    findings += _out_of_range(listings, num_classes)
    if folders_are_classes:
        trusted = [part for part, version in versions.items() if version == "public"]
        findings += _contradictions(listings, trusted)
    there = root.is_dir()
    if not there:
        findings.append(Finding("missing root", "", str(root), "there is no such folder of images"))
    splits: dict[str, SplitReport] = {}
    bytes_of: dict[str, int] = {}
    hints: list[str] = []
    for part, listing in listings.items():
        held = file_sizes(root, listing.paths) if there else torch.full((len(listing.paths),), -1)
        found, faulty = _look(part, root, listing, held, decode) if there else ([], set())
        findings += found
        bytes_of |= dict(zip(listing.paths, held.tolist(), strict=True))
        labels = torch.tensor(listing.labels, dtype=torch.int64)
        sound = (held > 0) & torch.tensor([path not in faulty for path in listing.paths], dtype=torch.bool)
        text = texts[part]
        splits[part] = SplitReport(
            source=text.file.name if isinstance(text, ListText) else "none",
            version=versions[part],
            expected=(sizes or {}).get(part) if versions[part] != "own" else None,
            listed=_per_class(labels, num_classes),
            present=_per_class(labels[held >= 0], num_classes),
            sound=_per_class(labels[sound], num_classes),
        )
        if bool((held < 0).any()):
            hints += _misplaced(root, listing.paths[int((held < 0).nonzero()[0])])
    if hash_content:
        findings += _same_bytes(root, listings, bytes_of)
    findings.sort(key=lambda finding: KINDS.index(finding.kind))
    looked = "every image decoded" if decode else "both ends of every JPEG"
    return Report(dataset, root, splits, findings, looked, list(dict.fromkeys(hints)))


def _read(part: str, text: ListText | LTBenchError, known: str | None) -> tuple[Listing, str, list[Finding]]:
    empty = Listing([], [], [])
    if isinstance(text, LTBenchError):
        return empty, "missing", [Finding("missing list", part, known or "", str(text))]
    findings: list[Finding] = []
    version = "own"
    if known is not None:
        version = "public" if (held := public_name(text.content)) == known else "another"
        if version == "another":
            how = f"it is {held}" if held is not None else difference(known, text.content)
            findings.append(Finding("wrong version", part, str(text.file), f"not the public {known}: {how}"))
    try:
        listing = parse_list(text.content, text.file)
    except LTBenchError as error:
        return empty, version, [*findings, Finding("unreadable", part, str(text.file), str(error))]
    for fault in listing.faults:
        kind = "duplicated" if fault.kind == "duplicated" else "malformed line"
        findings.append(Finding(kind, part, fault.item, fault.sentence))
    return listing, version, findings


def _named_classes(listings: Mapping[str, Listing]) -> int:
    """C: the highest training label plus one, or that of any split where there is no training list.

    No more than there are images: a stray label of a billion would fill the memory.
    """
    train = listings["train"].labels
    labels = train or [label for listing in listings.values() for label in listing.labels]
    return max((label for label in labels if label < len(labels)), default=-1) + 1


def _per_class(labels: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(labels[(labels >= 0) & (labels < num_classes)], minlength=num_classes)


def _shared(listings: Mapping[str, Listing]) -> list[Finding]:
    owners: dict[str, str] = {}
    return [
        Finding("duplicated", part, path, f"stands in the {other} list too; splits must be disjoint")
        for part, listing in listings.items()
        for path in listing.paths
        if (other := owners.setdefault(path, part)) != part
    ]


def _out_of_range(listings: Mapping[str, Listing], num_classes: int) -> list[Finding]:
    return [
        Finding("mislabelled", part, path, f"label {label} is none of the classes 0 to {num_classes - 1}")
        for part, listing in listings.items()
        for path, label in zip(listing.paths, listing.labels, strict=True)
        if not 0 <= label < num_classes
    ]


def _class_folder(path: str) -> str:
    """The folder below the first: ``n01440764`` of ``train/n01440764/x.JPEG``."""
    folder = path.rpartition("/")[0]
    return folder.partition("/")[2] or folder


def _contradictions(listings: Mapping[str, Listing], trusted: list[str]) -> list[Finding]:
    """Images whose label is not their folder's, which public lists decide, else the most of them."""
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    decided: dict[str, int] = {}
    for part, listing in listings.items():
        for path, label in zip(listing.paths, listing.labels, strict=True):
            folder = _class_folder(path)
            votes[folder][label] += 1
            if part in trusted:
                decided[folder] = label
    right = {folder: decided.get(folder, count.most_common(1)[0][0]) for folder, count in votes.items()}
    findings = [
        Finding("mislabelled", part, path, f"label {label}, its folder {folder} has label {right[folder]}")
        for part, listing in listings.items()
        for path, label in zip(listing.paths, listing.labels, strict=True)
        if label != right[folder := _class_folder(path)]
    ]
    folders: dict[int, list[str]] = defaultdict(list)
    for folder, label in right.items():
        folders[label].append(folder)
    return findings + [
        Finding(
            "mislabelled", "", several[0], f"label {label} is that of {len(several)} folders: {several[:4]}"
        )
        for label, several in folders.items()
        if len(several) > 1
    ]


def _look(
    part: str, root: Path, listing: Listing, held: Tensor, decode: bool
) -> tuple[list[Finding], set[str]]:
    findings: list[Finding] = []
    paths: list[str] = []
    for path, size in zip(listing.paths, held.tolist(), strict=True):
        if size < 0:
            findings.append(Finding("missing image", part, path, "there is no such file below the root"))
        elif size < 2:
            findings.append(Finding("truncated", part, path, f"{size} bytes"))
        else:
            paths.append(path)
    faults = content_faults(root, paths, decode)
    for path, reason in faults:
        kind = "truncated" if "truncated" in reason.lower() else "undecodable"
        findings.append(Finding(kind, part, path, reason))
    return findings, {finding.item for finding in findings}


def _same_bytes(root: Path, listings: Mapping[str, Listing], bytes_of: Mapping[str, int]) -> list[Finding]:
    """Images that hold the bytes of one before them, of all splits."""
    paths = [path for path, size in bytes_of.items() if size > 0]
    alike = same_content(root, paths, torch.tensor([bytes_of[path] for path in paths]))
    part_of = {path: part for part, listing in listings.items() for path in listing.paths}
    return [
        Finding("same content", part_of[path], path, f"the bytes of {first}")
        for first, *others in alike
        for path in others
    ]


def _misplaced(root: Path, path: str) -> list[str]:
    """Where a missing image lies after all, in the layouts that archives unpack to."""
    first, _, rest = path.partition("/")
    name = path.rpartition("/")[2]
    hints = []
    if rest and (root / first / name).is_file():
        hints.append(
            f"the images of {first} lie flat in {root / first}; the list expects class folders, as {path}"
        )
    for inner in ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "places365_standard", "places365_256", "images"):
        if (root / inner / path).is_file():
            hints.append(f"the images lie in {root / inner}; give that as the root")
    if rest and (root / rest).is_file():
        hints.append(f"the images lie in {root} itself; give the folder above {first} as the root")
    return hints
