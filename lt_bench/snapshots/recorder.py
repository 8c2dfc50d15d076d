"""What happens to a snapshot at the end of an epoch: followers see it, trails take it in, a store keeps it.

The same object serves the training of stage 1 and the replay of stored snapshots, so both give a
follower the same sequence.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from lt_bench.snapshots.plan import BacktrackPlan
from lt_bench.snapshots.snapshot import Snapshot
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.snapshots.trail import Trail
from lt_bench.timing import PartTimes


class Follower(Protocol):
    """A classifier in training that is shown each epoch's snapshot."""

    plan: BacktrackPlan

    def observe(self, snapshot: Snapshot, trail: Trail) -> None:
        """Take in Z^e with the trail of the snapshots before it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore its state."""
        ...


class SnapshotRecorder:
    """Trails, followers and store of one stage 1.

    Args:
        trails: a trail for every plan in use.
        followers: by a name that is stable over calls.
        store: where every snapshot is kept, or None.
        parts: where the time is counted.
    """

    def __init__(
        self,
        trails: Mapping[BacktrackPlan, Trail],
        followers: Mapping[str, Follower] | None = None,
        store: SnapshotStore | None = None,
        parts: PartTimes | None = None,
    ) -> None:
        self.trails = dict(trails)
        self.followers = dict(followers or {})
        self.store = store
        self.parts = parts or PartTimes()
        self.last: Snapshot | None = None
        # What each follower took of stage 1's time.
        self.seconds = dict.fromkeys(self.followers, 0.0)

    @property
    def begun(self) -> bool:
        """Whether a trail holds a snapshot."""
        return any(trail.newest is not None for trail in self.trails.values())

    def end_epoch(self, snapshot: Snapshot, *, last: bool = False) -> None:
        """Show ``snapshot`` to the followers, then keep it.

        Args:
            snapshot: Z^e.
            last: whether stage 1 ends here; then the trails stay as they were before Z^E, which is
                what A^E is made from.
        """
        for name, follower in self.followers.items():
            started = time.perf_counter()
            with self.parts.part("followers"):
                follower.observe(snapshot, self.trails[follower.plan])
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        if self.store is not None:
            with self.parts.part("io"):
                self.store.write(snapshot)
        if last:
            self.last = snapshot
            return
        for trail in self.trails.values():
            trail.push(snapshot)

    def state_dict(self) -> dict[str, Any]:
        """Trails and followers, and Z^E once stage 1 has ended, for a checkpoint."""
        state: dict[str, Any] = {
            "trails": {plan.key: trail.state_dict() for plan, trail in self.trails.items()},
            "followers": {name: f.state_dict() for name, f in self.followers.items()},
        }
        if self.last is not None:
            state["last"] = {"epoch": self.last.epoch, "features": self.last.features}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> set[str]:
        """Restore what the checkpoint has.

        Returns:
            The names of trails and followers that the checkpoint does not have.
        """
        missing: set[str] = set()
        for plan, trail in self.trails.items():
            if plan.key in state["trails"]:
                trail.load_state_dict(state["trails"][plan.key])
            else:
                missing.add(plan.key)
        for name, follower in self.followers.items():
            if name in state["followers"]:
                follower.load_state_dict(state["followers"][name])
            else:
                missing.add(name)
        return missing
