"""The training loop of stage 1: MMEngine's hooks at their documented points, no synchronisation in a step.

MMEngine's own epoch loop turns every loss into a Python number in every step, which makes the host wait
for the device. Here the loss is summed on the device and read once per logging interval. (With
``stage1.clip_grad`` MMEngine's optimiser wrapper reads the gradient's norm in every step all the same, and on
several GPUs global batch norm waits in every layer.)

On several ranks a rank's loss counts by its share of the global batch (:mod:`lt_bench.data.share`), and the
loss that is read is the global one. A process that is told to end (:mod:`lt_bench.engine.preemption`) saves
in the middle of the epoch; several agree on the step where they next read the loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.dist import all_gather_object, all_reduce, barrier, broadcast
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from torch import Tensor, nn

from lt_bench.data.batch import Batch
from lt_bench.data.place import LoaderPlace
from lt_bench.engine import preemption
from lt_bench.engine.checkpoints import BACKEND, preempted, preempted_name
from lt_bench.engine.runner import StageOneRunner
from lt_bench.errors import LTBenchError, Preempted
from lt_bench.registry import LOOPS
from lt_bench.seeding import derive_seed
from lt_bench.snapshots.hook import SnapshotHook

# Steps whose times, rates and losses are held for the logs, which look back on ten. MMEngine holds a million,
# copies all of them in every step, and saves them with every checkpoint.
HISTORY = 1000


@LOOPS.register_module("stage_one_loop")
class StageOneLoop(BaseLoop):
    """Epochs of stage 1.

    Args:
        runner: the runner; it counts where the time goes.
        dataloader: an iterable of :class:`lt_bench.data.batch.Batch` with ``set_epoch``.
        max_epochs: E.
        seed: the run's seed; what a method draws in an epoch depends on (seed, epoch, rank).
        validation: batches of the validation split for a representation that asks for them, or None.
        log_interval: steps between two readings of the loss.
        val_interval: epochs between two validations; 0 for none.
    """

    def __init__(
        self,
        runner: StageOneRunner,
        dataloader: Any,
        max_epochs: int,
        seed: int,
        validation: Iterable[Batch] | None = None,
        log_interval: int = 50,
        val_interval: int = 0,
    ) -> None:
        super().__init__(runner, dataloader)
        self.parts = runner.parts
        self.validation = validation
        self.max_epochs = max_epochs
        self.max_iters = max_epochs * len(self.dataloader)
        self.seed = seed
        self.log_interval = log_interval
        self.val_interval = val_interval
        # The runner sets these two when it resumes, a hook the third.
        self._epoch = 0
        self._iter = 0
        self.in_progress: dict[str, Any] | None = None
        self._stopping = False

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._epoch

    @property
    def iter(self) -> int:
        """Steps done."""
        return self._iter

    def run(self) -> torch.nn.Module:
        """Train to the last epoch.

        Raises:
            Preempted: the process was told to end; a checkpoint says where to go on.
        """
        runner = self.runner
        runner.call_hook("before_train")
        while self._epoch < self.max_epochs:
            self.run_epoch()
            if self.val_interval and runner.val_loop is not None:
                last = self._epoch == self.max_epochs
                if last or self._epoch % self.val_interval == 0:
                    with self.parts.part("evaluation"):
                        runner.val_loop.run()
            if self._told() and self._epoch < self.max_epochs:
                self._stop(0, None)
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
        first, since, mark = 0, 0, total.clone()
        if self.in_progress is not None:
            first, since, total, mark = self._go_on(self.in_progress, model.objective, total)
            self.in_progress = None
        for index, batch in enumerate(self.parts.each("data", self.dataloader), first):
            runner.call_hook("before_train_iter", batch_idx=index, data_batch=batch)
            with self.parts.part("forward"):
                loss = runner.model(batch, mode="loss")
                if batch.share is not None:
                    loss = batch.share.weighted(loss)
            with self.parts.part("backward"):
                runner.optim_wrapper.update_params(loss)
                with torch.no_grad():
                    model.objective.after_step(model)
            total += loss.detach()
            since += 1
            outputs = None
            if since == self.log_interval or index + 1 == steps:
                outputs = {"loss": self._read(self._agree((total - mark) / since), epoch)}
                since, mark = 0, total.clone()
            with self.parts.part("io") if outputs else nullcontext():  # logs
                runner.call_hook("after_train_iter", batch_idx=index, data_batch=batch, outputs=outputs)
            self._iter += 1
            if index + 1 < steps and self._told():
                self._stop(index + 1, model.objective, {"since": since}, {"total": total, "mark": mark})
        runner.message_hub.update_info("epoch_loss", float(self._agree(total)) / steps)
        if runner.world_size > 1 and model.numerics.batch_norm == "rank":
            # What is evaluated, and what snapshots are taken of, is what a checkpoint holds.
            for buffer in model.buffers():
                broadcast(buffer)
        model.eval()
        with torch.no_grad(), self.parts.part("evaluation"):
            model.objective.end_epoch(model, self.validation)
        model.train()
        for name, history in runner.message_hub.log_scalars.items():
            if name.startswith("train/"):
                history.max_length = HISTORY
        runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _agree(self, loss: Tensor) -> Tensor:
        """The mean of the ranks' losses; beside it they agree on whether to stop."""
        if self.runner.world_size == 1:
            return loss
        told = loss.new_tensor(float(preemption.asked()))
        pair = torch.stack([loss, told]).double()
        all_reduce(pair)
        self._stopping = bool(pair[1])
        return pair[0] / self.runner.world_size

    def _told(self) -> bool:
        """Whether to stop here: one process decides by itself, several stop where they agreed to."""
        return preemption.asked() if self.runner.world_size == 1 else self._stopping

    def _stop(
        self,
        batches: int,
        objective: nn.Module | None,
        numbers: dict[str, int] | None = None,
        sums: dict[str, Tensor] | None = None,
    ) -> NoReturn:
        """Save after ``batches`` of an epoch, with all that decides how it goes on, and end."""
        runner = self.runner
        meta: dict[str, Any] = {"epoch": self._epoch, "iter": self._iter}
        if objective is not None:
            place = self.dataloader.place(batches)
            own = {
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
                **{name: value.cpu() for name, value in (sums or {}).items()},
            }
            meta["in_progress"] = {
                "batches": batches,
                "drawn": place.drawn,
                **(numbers or {}),
                # What the objective keeps between steps and is no tensor.
                "objective": {
                    name: value
                    for name, value in vars(objective).items()
                    if isinstance(value, (bool, int, float)) and name != "training"
                },
                "ranks": all_gather_object(own),
            }
            for hook in runner.hooks:
                if isinstance(hook, SnapshotHook):
                    hook.keep_epoch_in_progress()
        name = preempted_name(self._epoch, batches)
        runner.save_checkpoint(runner.work_dir, name, meta=meta, backend_args={"backend": BACKEND})
        if runner.rank == 0:
            # A resume starts from the newest.
            for earlier in list(preempted(Path(runner.work_dir)).values())[:-1]:
                earlier.unlink()
        barrier()
        where = (
            f"after step {batches} of epoch {self._epoch + 1}" if batches else f"after epoch {self._epoch}"
        )
        raise Preempted(
            f"ended by SIGTERM {where}, saved as {Path(runner.work_dir) / name}; "
            "give the same command with --resume to go on"
        )

    def _go_on(
        self, saved: dict[str, Any], objective: nn.Module, like: Tensor
    ) -> tuple[int, int, Tensor, Tensor]:
        """Bring loader, generators and objective to where an epoch was stopped."""
        self.dataloader.go_on_from(LoaderPlace(saved["batches"], saved["drawn"]))
        for name, value in saved["objective"].items():
            setattr(objective, name, value)
        ranks, rank = saved["ranks"], self.runner.rank
        # A rank that was not there has drawn nothing yet; every rank's sums have the same mean.
        own = ranks[rank] if rank < len(ranks) else None
        if own is not None:
            torch.set_rng_state(own["random"].cpu())
            if own["random_cuda"] is not None and like.device.type == "cuda":
                torch.cuda.set_rng_state(own["random_cuda"].cpu())
        if own is None or len(ranks) != self.runner.world_size:
            sums = {name: torch.stack([r[name] for r in ranks]).mean(0) for name in ("total", "mark")}
        else:
            sums = {name: own[name] for name in ("total", "mark")}
        return saved["batches"], saved["since"], sums["total"].to(like.device), sums["mark"].to(like.device)

    def _read(self, loss: torch.Tensor, epoch: int) -> float:
        value = float(loss)
        if value != value or value in (float("inf"), float("-inf")):
            raise LTBenchError(
                f"the loss became {value} in epoch {epoch} of stage 1; lower "
                "stage1.optimizer.lr, add a warm-up to stage1.schedule, or use fp32 numerics "
                "(--resume goes on from the last checkpoint)"
            )
        return value
