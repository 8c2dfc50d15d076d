"""NumPy's .npz archives, read without trusting them."""

from __future__ import annotations

import lzma
import os
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_bench.errors import LTBenchError

# What reading a damaged one raises: zip, its codecs, NumPy's header, a size that no memory has.
_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
)


def read_arrays(file: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """All arrays of an archive by name; pickled ones are refused.

    Raises:
        LTBenchError: it is damaged, or has a member that is no plain array.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for name, array in arrays.items():
            # A member without NumPy's header comes as bytes.
            if not isinstance(array, np.ndarray):
                raise ValueError(f"its member {name!r} is no array")
    except _ERRORS as error:
        # The first sentence: NumPy's second tells how to load it unsafely.
        reason = " ".join(str(error).split()).partition(". ")[0][:160]
        raise LTBenchError(
            f"{file} is no readable npz archive: what it holds cannot be read as .npz ({reason}); write "
            "plain arrays by numpy.savez, or fetch it again"
        ) from error
    return arrays
