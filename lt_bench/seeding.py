"""Seeds derived from seeds: every random stream is a pure function of what it belongs to.

An epoch's draws depend on (run seed, purpose, epoch) and not on what was drawn before; that is why a
resumed run equals an uninterrupted one and a replay equals the training it replays.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that mixes ``parts``; equal parts give equal seeds, on every platform."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """A generator on ``device`` seeded with :func:`derive_seed` of ``parts``."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))
