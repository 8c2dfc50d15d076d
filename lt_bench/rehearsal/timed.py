"""The pipeline's own objects, with a meter at the calls that the recorder makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lt_bench.method import TrailFollower
from lt_bench.rehearsal.meter import Meter
from lt_bench.rehearsal.sizes import folder_bytes, trail_bytes
from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.snapshots.trail import Trail


@dataclass
class Timed:
    """Trails and a store that are timed and measured.

    Attributes:
        meter: what times them.
        trail_began: bytes of the largest trail when it was made.
        trail_bytes: bytes of the largest trail after any push.
        stores: bytes on disk after each write.
    """

    meter: Meter
    trail_began: int = 0
    trail_bytes: int = 0
    stores: list[int] = field(default_factory=list)

    def trail(self, plan: BacktrackPlan, dim: int, dtype: torch.dtype, device: torch.device) -> Trail:
        """A trail whose pushes are timed."""
        timed = self

        class TimedTrail(Trail):
            def push(self, snapshot: Snapshot) -> None:
                with timed.meter.part("push onto the trail"):
                    super().push(snapshot)
                timed.trail_bytes = max(timed.trail_bytes, trail_bytes(self))

        made = TimedTrail(plan, dim, dtype, device)
        self.trail_began = max(self.trail_began, trail_bytes(made))
        return made

    def store(self, folder: Path, **given: Any) -> SnapshotStore:
        """A store whose writes are timed, and after which its folder is measured."""
        timed = self

        class TimedStore(SnapshotStore):
            def write(self, snapshot: Snapshot) -> Path:
                with timed.meter.part("store a snapshot"):
                    path = super().write(snapshot)
                timed.stores.append(folder_bytes(self.folder))
                return path

        return TimedStore(folder, **given)


class TimedFollower:
    """A follower with the meter around what it does with a snapshot."""

    def __init__(self, follower: TrailFollower, meter: Meter, part: str) -> None:
        self.plan = follower.plan
        self.follower = follower
        self._meter, self._part = meter, part

    def observe(self, snapshot: Snapshot, trail: Trail) -> None:
        """See :class:`TrailFollower`."""
        with self._meter.part(self._part):
            self.follower.observe(snapshot, trail)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`TrailFollower`."""
        return self.follower.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`TrailFollower`."""
        self.follower.load_state_dict(state)
