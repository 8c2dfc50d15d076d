"""Scoring under a stated protocol: shot groups, accuracy, calibration, and the run record."""

from lt_bench.evaluation.metric import ShotMetric

__all__ = ["ShotMetric"]
