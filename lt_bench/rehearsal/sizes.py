"""Sizes that both rehearsals state or measure."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from lt_bench.snapshots.trail import Trail

# Epochs beyond the deepest class's K_j, in which its trail is full.
MORE_EPOCHS = 3
# A shard's header: format, identity, digests, offsets.
_HEADER_BYTES = 4096
MOMENT_BYTES = 4


def shard_bytes(features: int, moments: int) -> int:
    """What a stored snapshot takes: ``features`` bytes of features, twice ``moments`` numbers, a header."""
    return features + 2 * MOMENT_BYTES * moments + _HEADER_BYTES


def trail_bytes(trail: Trail) -> int:
    """Bytes of the tensors that a trail holds beside its plan."""
    return sum(value.nbytes for value in trail.state_dict().values() if isinstance(value, Tensor))


def folder_bytes(folder: Path) -> int:
    """Bytes of the files below ``folder``; 0 where it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
