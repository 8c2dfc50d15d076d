"""Building and running the stages: stage-1 sharing, resume, distributed start-up."""

from lt_bench.engine import clock, loop, progress  # noqa: F401  registers hooks and the loop
