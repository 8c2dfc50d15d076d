"""Configs: found by name or path, read by MMEngine, composed, checked against what an experiment has.

An experiment's config is MMEngine's (Python, ``_base_`` inheritance). ``folder/one+two`` names one that is
composed of two.
"""

from lt_bench.config.experiment import Experiment, digest, load_dataset, load_experiment, portable_dataset
from lt_bench.config.resolution import DTYPES, changed, resolve

__all__ = [
    "DTYPES",
    "Experiment",
    "changed",
    "digest",
    "load_dataset",
    "load_experiment",
    "portable_dataset",
    "resolve",
]
