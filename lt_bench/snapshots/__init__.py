"""Snapshots of the training features: capturing them, keeping trails of them, assembling A^e."""

from lt_bench.snapshots.alignment import Moments
from lt_bench.snapshots.assembly import assemble, class_balanced
from lt_bench.snapshots.buffer import SnapshotBuffer
from lt_bench.snapshots.plan import BacktrackPlan, class_specific_plan, fixed_length_plan
from lt_bench.snapshots.snapshot import Snapshot, make_snapshot
from lt_bench.snapshots.store import SnapshotStore
from lt_bench.snapshots.trail import Trail

__all__ = [
    "BacktrackPlan",
    "Moments",
    "Snapshot",
    "SnapshotBuffer",
    "SnapshotStore",
    "Trail",
    "assemble",
    "class_balanced",
    "class_specific_plan",
    "fixed_length_plan",
    "make_snapshot",
]
