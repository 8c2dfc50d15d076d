"""Random keys without state: any permutation of a run, had without drawing those before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def random_keys(seed: int, *counters: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit random key for each tuple of counters; sorting by the keys shuffles.

    The mixing function is that of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), applied to
    one counter after the other. It needs no state, so the permutation of any class in any cycle
    can be had without drawing those before it, and it does not change with a library's version.

    Args:
        seed: from :func:`lt_bench.seeding.derive_seed`.
        *counters: integer arrays of one shape (or that broadcast), not negative.

    Returns:
        uint64 keys of the broadcast shape.
    """
    keys = np.asarray(np.uint64(seed))
    # Arithmetic modulo 2**64 is what is meant; numpy warns of it for scalars only.
    with np.errstate(over="ignore"):
        for counter in counters:
            keys = keys ^ ((counter.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
            keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            keys = keys ^ (keys >> np.uint64(31))
    return keys
