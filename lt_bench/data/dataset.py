"""A long-tailed dataset as every other part sees it: three splits, counts, an identity, facts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lt_bench.data.images import ImageFiles, ImageSet, check_labels
from lt_bench.errors import LTBenchError

Split = ImageSet | ImageFiles


def refuse_untrained(counts: Tensor, classes: Sequence[str], name: str) -> None:
    """Refuse classes without a training image.

    Args:
        counts: (C,) training images of each class.
        classes: C names.
        name: the dataset's, for the sentence.

    Raises:
        LTBenchError: there is one.
    """
    empty = (counts == 0).nonzero().flatten().tolist()
    if not empty:
        return
    named = ", ".join(f"{j} ({classes[j]!r})" for j in empty[:5])
    more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
    from_one = "; where labels count from 1, subtract 1" if empty == [0] else ""
    raise LTBenchError(
        f"{name} has no training sample of class {named}{more}; add one or remove the class, a method cannot "
        f"learn a class it never sees{from_one}"
    )


@dataclass(frozen=True, eq=False)
class LongTailData:
    """A checked dataset.

    Attributes:
        name: the registered name, e.g. ``"cifar100_lt"``.
        classes: C names.
        train: the long-tailed training split.
        val: the validation split, or None where there is none.
        test: the test split.
        facts: JSON-able statements for a run's record: imbalance factor (as measured, unless
            the builder states one), draw, source, rule of validation; sizes are added here.

    Raises:
        LTBenchError: a label that is no class, a class without a training sample, an empty split, splits in
            memory whose images differ in shape.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split | None
    test: Split
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.classes:
            raise LTBenchError(f"{self.name} has no classes; name them or give labelled images")
        if self.num_classes == 1:
            raise LTBenchError(
                f"{self.name} has one class, {self.classes[0]!r}; give two or more, to be told apart"
            )
        for part, split in self.splits().items():
            check_labels(split.labels, self.num_classes, f"the {part} split of {self.name}")
            if len(split) == 0:
                otherwise = " or leave it out" if part == "val" else ""
                raise LTBenchError(f"the {part} split of {self.name} is empty; give it images{otherwise}")
        refuse_untrained(self.counts, self.classes, self.name)
        shapes = {
            part: tuple(split.images.shape[1:])
            for part, split in self.splits().items()
            if isinstance(split, ImageSet)
        }
        if len(set(shapes.values())) > 1:
            told = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
            raise LTBenchError(
                f"the splits of {self.name} differ in (channels, height, width): {told}; bring them to one"
            )
        sizes = {part: len(split) for part, split in self.splits().items()}
        counted = {"num_classes": self.num_classes, "sizes": sizes}
        measured = {"imbalance_factor": float(self.counts.max() / self.counts.min())}
        object.__setattr__(self, "facts", {**measured, **self.facts, **counted})

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    @cached_property
    def counts(self) -> Tensor:
        """(C,) int64 training counts n_j."""
        return torch.bincount(self.train.labels.cpu(), minlength=self.num_classes)

    def splits(self) -> dict[str, Split]:
        """The splits there are, by name, in the order train, val, test."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {part: split for part, split in named.items() if split is not None}

    @cached_property
    def train_identity(self) -> str:
        """Hex sha256 of the training split alone, which is what decides stage 1."""
        return _digest(self.num_classes, {"train": self.train})

    @cached_property
    def val_identity(self) -> str:
        """Hex sha256 of the validation split alone, for a stage 1 that learns from it."""
        return _digest(self.num_classes, {} if self.val is None else {"val": self.val})

    @cached_property
    def identity(self) -> str:
        """Hex sha256 of the content of all splits.

        Labels and pixels count (for files: paths and sizes); class names, the place on the disk
        and the source's format do not.
        """
        return _digest(self.num_classes, self.splits())


def _digest(num_classes: int, splits: dict[str, Split]) -> str:
    digest = hashlib.sha256(f"lt-bench data 1, {num_classes} classes".encode())
    for part, split in splits.items():
        digest.update(f"\n{part} {len(split)}\n".encode())
        digest.update(_bytes(split.labels.cpu()))
        if isinstance(split, ImageSet):
            digest.update(f"\nimages {tuple(split.images.shape)}\n".encode())
            digest.update(_bytes(split.images.cpu()))
        else:
            pairs = zip(split.paths, _sizes(split), strict=True)
            lines = (f"{path} {size}\n" for path, size in pairs)
            digest.update(f"\nfiles\n{''.join(lines)}".encode())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    array = tensor.contiguous().numpy()
    # Labels are hashed little-endian whatever the machine.
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view("uint8").data


def _sizes(split: ImageFiles) -> list[int]:
    missing = (split.sizes < 0).nonzero().flatten()
    if len(missing):
        raise LTBenchError(
            f"cannot read image {split.root / split.paths[int(missing[0])]}: there is no such file; "
            "restore the file or take it off the list"
        )
    return split.sizes.tolist()
