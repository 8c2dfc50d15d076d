"""Randomness that is a pure function of its names: (seed, epoch, rank), or (seed, class, cycle).

A run that is killed and resumed must draw what the uninterrupted one draws, so no generator's
state is carried over an epoch: each epoch starts a stream of its own, whose key is a hash of
what the stream is for. Neighbouring seeds therefore give unrelated streams.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_seed(*names: int | str) -> int:
    """A seed for the stream called ``names``: 63 bits of a hash, well mixed.

    Args:
        *names: integers and strings, order counts: ``stream_seed("sampler", seed, epoch)``.

    Returns:
        An integer in [0, 2**63).
    """
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def random_keys(seed: int, *counters: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit random key for each tuple of counters; sorting by the keys shuffles.

    The mixing function is that of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), applied to
    one counter after the other. It needs no state, so the permutation of any class in any cycle
    can be had without drawing those before it, and it does not change with a library's version.

    Args:
        seed: from :func:`stream_seed`.
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
