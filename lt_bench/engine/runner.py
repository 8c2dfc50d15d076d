"""MMEngine's runner as stage 1 uses it."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from lt_bench.timing import PartTimes


class StageOneRunner(Runner):
    """MMEngine's runner. Its log is whole in its file, for the console belongs to the progress.

    Args:
        parts: where the seconds of training go; the loop and the hooks count on it.
        args: the runner's own.
        kwargs: the runner's own.
    """

    def __init__(self, *args: Any, parts: PartTimes, **kwargs: Any) -> None:
        self.parts = parts
        super().__init__(*args, **kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The logger, with errors only on the console."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(logging.ERROR)
        return logger

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """MMEngine's."""
        with self.parts.part("io"):
            super().save_checkpoint(*args, **kwargs)
