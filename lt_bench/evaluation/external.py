"""Predictions of any model, from a file, to be scored under the same protocol.

``.npz``: an array ``logits`` (n, C) or ``predictions`` (n,), in the order of the test split.
``.csv``: a header line, then one line a test sample, with a column ``prediction`` or the C columns
``0`` .. ``C-1`` of logits; an optional column ``index`` gives a line's position in the test split.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lt_bench.archives import read_arrays
from lt_bench.errors import LTBenchError


def read_predictions(path: str | os.PathLike[str], num_samples: int, num_classes: int) -> Tensor:
    """Read and check a file of predictions or logits.

    Args:
        path: a ``.npz`` or ``.csv`` file.
        num_samples: n, the size of the test split.
        num_classes: C.

    Returns:
        In the order of the test split, logits (n, C) float32 or float64, or predictions (n,) int64.

    Raises:
        LTBenchError: an unreadable file or another format, a wrong number of rows or columns, a
            class out of range, NaN, a repeated or missing index.
    """
    file = Path(path)
    if not file.is_file():
        raise LTBenchError(f"there is no file of predictions at {file}")
    if file.suffix == ".npz":
        values = _from_npz(file)
    elif file.suffix == ".csv":
        values = _from_csv(file, num_samples, num_classes)
    else:
        raise LTBenchError(f"{file}: predictions are read from .npz or .csv, not {file.suffix!r}")
    if len(values) != num_samples:
        raise LTBenchError(
            f"{file} has {len(values)} rows, the test split has {num_samples} samples; "
            "give one row for each, in the order of the split"
        )
    if values.ndim == 2:
        return _checked_logits(file, values, num_classes)
    return _checked_classes(file, values, num_classes)


def _from_npz(file: Path) -> np.ndarray:
    arrays = read_arrays(file)
    names = [name for name in ("logits", "predictions") if name in arrays]
    if len(names) != 1:
        raise LTBenchError(
            f"{file} must hold either an array 'logits' (n, C) or an array 'predictions' (n,), got "
            f"{sorted(arrays)}"
        )
    values = arrays[names[0]]
    dimensions = {"logits": 2, "predictions": 1}[names[0]]
    if values.ndim != dimensions or values.dtype.kind not in "iuf":
        raise LTBenchError(
            f"{file}: {names[0]!r} must be numbers of {dimensions} dimensions, got {values.dtype} "
            f"of shape {values.shape}"
        )
    return values


def _from_csv(file: Path, num_samples: int, num_classes: int) -> np.ndarray:
    try:
        table = pd.read_csv(file, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).strip().splitlines()[-1]
        raise LTBenchError(f"{file} cannot be read as CSV: {reason}") from error
    for name in table.columns:
        if table[name].dtype.kind not in "iuf":
            raise LTBenchError(f"{file}: column {name!r} must hold numbers only")
    # pandas takes fields that the header does not name for row labels.
    if not isinstance(table.index, pd.RangeIndex):
        raise LTBenchError(
            f"{file}: its lines have more fields than its header names; name every column, such as "
            "'index,prediction'"
        )
    if "index" in table.columns:
        table = _in_order(file, table, num_samples)
    if list(table.columns) == ["prediction"]:
        return table["prediction"].to_numpy()
    expected = [str(number) for number in range(num_classes)]
    if sorted(table.columns) != sorted(expected):
        given = ", ".join(map(str, table.columns[:4]))
        raise LTBenchError(
            f"{file} needs a header line with 'prediction', or with 0 to {num_classes - 1} (one "
            f"column of logits a class), and optionally 'index'; got {len(table.columns)} columns: "
            f"{given}{', ...' if len(table.columns) > 4 else ''}"
        )
    return table[expected].to_numpy()


def _in_order(file: Path, table: pd.DataFrame, num_samples: int) -> pd.DataFrame:
    """The rows in the order of their column ``index``, which is dropped."""
    index = table["index"]
    if index.dtype.kind not in "iu":
        raise LTBenchError(f"{file}: column 'index' must hold integers, and none may be missing")
    outside = index[(index < 0) | (index >= num_samples)]
    if len(outside):
        raise LTBenchError(
            f"{file}: index {outside.iloc[0]} lies outside of 0..{num_samples - 1}, the positions "
            "in the test split"
        )
    repeated = index[index.duplicated()]
    if len(repeated):
        raise LTBenchError(f"{file}: index {repeated.iloc[0]} occurs more than once")
    if len(index) < num_samples:
        missing = np.setdiff1d(np.arange(num_samples), index.to_numpy())
        raise LTBenchError(
            f"{file}: {len(missing)} of {num_samples} test samples are missing (first: index {missing[0]})"
        )
    return table.sort_values("index").drop(columns="index")


def _checked_logits(file: Path, values: np.ndarray, num_classes: int) -> Tensor:
    if values.shape[1] != num_classes:
        raise LTBenchError(f"{file} has logits of {values.shape[1]} classes, the dataset has {num_classes}")
    # Half precision and small integers are widened; what is wide already keeps every digit it can.
    dtype = np.float64 if values.dtype.itemsize >= 8 else np.float32
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=dtype)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise LTBenchError(
            f"{file}: the logits of {len(broken)} rows are NaN or infinite (first: row {broken[0]})"
        )
    return torch.from_numpy(values)


def _checked_classes(file: Path, values: np.ndarray, num_classes: int) -> Tensor:
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise LTBenchError(f"{file}: the prediction of row {broken[0]} is missing, NaN or infinite")
    wrong = np.flatnonzero((values < 0) | (values >= num_classes) | (values != np.floor(values)))
    if len(wrong):
        raise LTBenchError(
            f"{file}: the prediction of row {wrong[0]} is {values[wrong[0]]}, expected an integer "
            f"in 0..{num_classes - 1}"
        )
    return torch.from_numpy(values.astype(np.int64))
