"""The training loop of stage 1: MMEngine's hooks at their documented points, no synchronisation in a step.

MMEngine's own epoch loop turns every loss into a Python number in every step, which makes the host wait
for the device. Here the loss is summed on the device and read once per logging interval. (With
``stage1.clip_grad`` MMEngine's optimiser wrapper reads the gradient's norm in every step all the same.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.registry import LOOPS
from lt_bench.seeding import derive_seed


@LOOPS.register_module("stage_one_loop")
class StageOneLoop(BaseLoop):
    """Epochs of stage 1.

    Args:
        runner: the runner.
        dataloader: an iterable of :class:`lt_bench.data.batch.Batch` with ``set_epoch``.
        max_epochs: E.
        seed: the run's seed; what is random in an epoch depends on (seed, epoch, rank) only.
        validation: batches of the validation split for a representation that asks for them, or None.
        log_interval: steps between two readings of the loss.
        val_interval: epochs between two validations; 0 for none.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        max_epochs: int,
        seed: int,
        validation: Iterable[Batch] | None = None,
        log_interval: int = 50,
        val_interval: int = 0,
    ) -> None:
        super().__init__(runner, dataloader)
        self.validation = validation
        self.max_epochs = max_epochs
        self.max_iters = max_epochs * len(self.dataloader)
        self.seed = seed
        self.log_interval = log_interval
        self.val_interval = val_interval
        self.val_begin = 1
        self.stop_training = False
        # The runner sets these two when it resumes.
        self._epoch = 0
        self._iter = 0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._epoch

    @property
    def iter(self) -> int:
        """Steps done."""
        return self._iter

    def run(self) -> torch.nn.Module:
        """Train to the last epoch."""
        runner = self.runner
        runner.call_hook("before_train")
        while self._epoch < self.max_epochs and not self.stop_training:
            self.run_epoch()
            if self.val_interval and runner.val_loop is not None:
                last = self._epoch == self.max_epochs
                if last or self._epoch % self.val_interval == 0:
                    runner.val_loop.run()
        runner.call_hook("after_train")
        return runner.model

    def run_epoch(self) -> None:
        """Train one epoch.

        Raises:
            LTBenchError: the loss is not finite.
        """
        runner = self.runner
        epoch = self._epoch + 1
        wrapped = is_model_wrapper(runner.model)
        model = runner.model.module if wrapped else runner.model
        torch.manual_seed(derive_seed(self.seed, "step", epoch, runner.rank))
        self.dataloader.set_epoch(self._epoch)
        model.objective.start_epoch(epoch, self.max_epochs)
        runner.call_hook("before_train_epoch")
        runner.model.train()
        steps = len(self.dataloader)
        total = torch.zeros((), device=next(model.parameters()).device)
        since, mark = 0, total.clone()
        for index, batch in enumerate(self.dataloader):
            runner.call_hook("before_train_iter", batch_idx=index, data_batch=batch)
            loss = runner.model(batch, mode="loss")
            runner.optim_wrapper.update_params(loss)
            with torch.no_grad():
                model.objective.after_step(model)
            total += loss.detach()
            since += 1
            outputs = None
            if since == self.log_interval or index + 1 == steps:
                outputs = {"loss": self._read((total - mark) / since, epoch)}
                since, mark = 0, total.clone()
            runner.call_hook("after_train_iter", batch_idx=index, data_batch=batch, outputs=outputs)
            self._iter += 1
        runner.message_hub.update_info("epoch_loss", float(total) / steps)
        model.eval()
        with torch.no_grad():
            model.objective.end_epoch(model, self.validation)
        model.train()
        runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _read(self, loss: torch.Tensor, epoch: int) -> float:
        value = float(loss)
        if value != value or value in (float("inf"), float("-inf")):
            raise LTBenchError(
                f"the loss became {value} in epoch {epoch} of stage 1; lower "
                "stage1.optimizer.lr, add a warm-up to stage1.schedule, or use fp32 numerics "
                "(--resume goes on from the last checkpoint)"
            )
        return value
