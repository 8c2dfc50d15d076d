"""SIGTERM in a loader's workers: a scheduler sends it to every process of a job, and they must outlive it.

The process that trains decides when to end and still needs batches until then. Its own SIGTERM to a worker,
by which torch and multiprocessing clear up, ends the worker.
"""

from __future__ import annotations

import os
import signal
import threading


def heed_only_the_parent(worker: int) -> None:
    """Let SIGTERM end this process only where its parent sent it; for a DataLoader's ``worker_init_fn``.

    Nothing where the system cannot tell who sent a signal.

    Args:
        worker: number of the worker.
    """
    del worker
    if not hasattr(signal, "sigwaitinfo"):
        return
    parent = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
