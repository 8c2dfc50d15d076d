"""Tests mirror lt_bench/ and methods/."""
