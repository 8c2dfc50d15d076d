"""Rehearsals: the two-stage pipeline under the class counts of a large dataset, on generated data.

``features`` feeds generated features of the real dimension to the real snapshots, trails, store and
classifiers; ``images`` sends generated images of a few pixels through whole runs. Both measure memory, disk
and time, and check that the memory and disk that the harness states are those that it takes.
"""

from lt_bench.rehearsal.features import FeatureRehearsal, rehearse_features
from lt_bench.rehearsal.images import ImageRehearsal, rehearse_images
from lt_bench.rehearsal.report import Check, Report, tables

__all__ = [
    "Check",
    "FeatureRehearsal",
    "ImageRehearsal",
    "Report",
    "rehearse_features",
    "rehearse_images",
    "tables",
]
