"""Which code, on what and by which processes, trained a stage 1, over all the calls that it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.environment import PLACE
from lt_bench.registry import HOOKS


@HOOKS.register_module("provenance")
class Provenance(Hook):
    """Keeps the code's version of every training call in the checkpoints, and where it ran.

    Where batch norm is taken by rank, another number of ranks trains another network, and a resume with
    another one is refused.

    Args:
        code: version of the running code, as :func:`lt_bench.evaluation.environment.code_version` gives
            it at the start of the call: while it runs, the checkout may move on.
        environment: what the call runs on, as
            :func:`lt_bench.evaluation.environment.describe_environment` gives it; its ``PLACE`` is kept.
        by_rank: whether batch norm takes the statistics of each rank's share.
    """

    priority = "VERY_HIGH"

    def __init__(self, code: dict[str, Any], environment: Mapping[str, Any], by_rank: bool = False) -> None:
        world = get_world_size()
        call = {**code, "environment": {key: environment[key] for key in PLACE}}
        self.calls = [call if world == 1 else {**call, "processes": world}]
        self.by_rank = by_rank

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note who trained so far."""
        checkpoint["meta"]["trained_by"] = self.calls
        checkpoint["meta"]["world_size"] = get_world_size()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on from the calls before.

        Raises:
            LTBenchError: the checkpoint is of a training with another number of processes, by which batch
                norm goes.
        """
        meta = checkpoint["meta"]
        if self.by_rank and meta.get("world_size") != get_world_size():
            raise LTBenchError(
                f"the checkpoint is of a training on {meta.get('world_size')} processes, this call has "
                f"{get_world_size()}, and stage1.numerics.batch_norm is 'rank'; resume with as many as "
                f"before, or train it from the start (--restart, or delete {runner.work_dir})"
            )
        self.calls = [call for call in meta["trained_by"] if call not in self.calls] + self.calls
