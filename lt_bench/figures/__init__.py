"""The paper's figures, from stored snapshots and run records.

A file a figure holds what it shows, computed by pure functions on tensors; ``plots`` draws that, ``canvas``
turns a drawing into bytes, and ``make`` puts them together for the command line.
"""
