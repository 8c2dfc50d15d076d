"""How many classes a set has, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lt_bench.errors import LTBenchError


def class_names(names: Sequence[str] | None, num_classes: int, where: str) -> tuple[str, ...]:
    """``names`` as a tuple, or the indices as names.

    Raises:
        LTBenchError: another number of names than classes.
    """
    if names is None:
        return tuple(str(j) for j in range(num_classes))
    if len(names) != num_classes:
        raise LTBenchError(
            f"{where} has {num_classes} classes but {len(names)} class names; give one a class"
        )
    return tuple(names)


def number_of_classes(highest_labels: Iterable[int], train_size: int, where: str) -> int:
    """C of a set that does not say: the highest label of any split plus one.

    Raises:
        LTBenchError: that is more than there are training images, so that some class has none;
            it is told here because a stray label of a billion would fill the memory first.
    """
    classes = max(highest_labels, default=-1) + 1
    if classes > train_size:
        raise LTBenchError(
            f"the highest label of {where} is {classes - 1}, but there are only {train_size} "
            "training images and each class needs one; correct the label or name the classes"
        )
    return classes
