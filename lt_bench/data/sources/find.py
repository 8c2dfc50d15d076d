"""Where a dataset is looked for, and which format is found there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lt_bench.data.sources.source import Sources
from lt_bench.errors import LTBenchError

Finder = Callable[[Path], Sources | None]


def places(root: str | os.PathLike[str] | None, folder: str) -> list[Path]:
    """The folders to look into, in order.

    Args:
        root: what the user named, or None for ``$LT_BENCH_DATA`` (``./data`` where it is unset).
        folder: the dataset's own folder below that base, e.g. ``"cifar100"``.

    Returns:
        ``[root]``; without one ``[base/folder, base]``, the base itself because torchvision's
        datasets make their folder in it.
    """
    if root is not None:
        return [Path(root).expanduser()]
    base = Path(os.environ.get("LT_BENCH_DATA") or "data").expanduser()
    return [base / folder, base]


def find_sources(
    name: str,
    looked: list[Path],
    finders: dict[str, Finder],
    *,
    download: Callable[[Path], None] | None = None,
    advice: str = "put one there, set dataset.root or the environment variable LT_BENCH_DATA, or set "
    "dataset.download=true where the dataset offers it",
) -> Sources:
    """The first format that is found in the first place that has one.

    Args:
        name: of the dataset, for the sentence.
        looked: from :func:`places`.
        finders: a description of what each looks for, and the function that looks.
        download: fetches the dataset into the folder it is given, when nothing was found.
        advice: what a person can do where nothing is found.

    Returns:
        The sources.

    Raises:
        LTBenchError: nothing found; the sentence says where and for what.
    """
    for attempt in ("look", "fetch"):
        for place in looked:
            for finder in finders.values():
                found = finder(place)
                if found is not None:
                    return found
        if download is None:
            break
        if attempt == "look":
            download(looked[0])
    raise LTBenchError(
        f"no {name} in {' or '.join(str(place) for place in looked)}: expected "
        f"{', or '.join(finders)}; {advice}"
    )
