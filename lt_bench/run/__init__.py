"""One call: configs and seeds in, stages run, records out.

Experiments that share a stage 1 are run together: it is trained once, classifiers that follow its
epochs are trained alongside, and every other classifier hangs on the finished artefact.
"""

from lt_bench.run.call import run
from lt_bench.run.jobs import Settings

__all__ = ["Settings", "run"]
