"""The shot metrics as an MMEngine metric: a thin shell over :mod:`lt_bench.evaluation.report`.

Each batch is reduced on its device to a prediction and a confidence a sample, so that memory does
not grow with the number of classes. Samples are put together by their index in the split, which
makes the result independent of the number of ranks and of samples that a sampler repeats to fill up
the last batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.report import PERCENTAGES, evaluate_predictions, reduce_logits
from lt_bench.evaluation.shots import find_convention
from lt_bench.registry import METRICS


@METRICS.register_module("shot_metric")
class ShotMetric(BaseMetric):
    """Top-1, many/medium/few-shot accuracy, worst class, macro-F1 and ECE, all in percent.

    ``process`` takes a batch with the fields ``labels`` (B,) and ``indices`` (B,), positions in the
    split, and as ``data_samples`` one dict a batch, ``[{"logits": (B, C)}]``.

    Args:
        counts: training images of each class; None takes ``counts`` of the dataset's meta info.
        convention: the shot-group convention: ``paper``, ``strict`` or ``inclusive``.
        prefix: what the metric's names start with.
    """

    default_prefix = "shot"

    def __init__(
        self,
        convention: str,
        counts: Sequence[int] | Tensor | None = None,
        prefix: str | None = None,
    ) -> None:
        # The device's own collectives: MMEngine's "cpu" way writes pickles to the working folder.
        super().__init__(collect_device="gpu", prefix=prefix)
        self.results: list[tuple[Any, ...]] = []
        self.convention = find_convention(convention).name
        self._counts = counts

    @property
    def counts(self) -> Tensor:
        """(C,) int64 training counts.

        Raises:
            LTBenchError: neither given nor among the dataset's meta info.
        """
        counts = self._counts
        if counts is None:
            counts = (self.dataset_meta or {}).get("counts")
        if counts is None:
            raise LTBenchError(
                "ShotMetric needs training counts: give counts=..., or a dataset whose metainfo has 'counts'"
            )
        return torch.as_tensor(counts, dtype=torch.int64)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce one batch.

        Raises:
            LTBenchError: logits whose rows are not those of the batch.
        """
        logits = torch.cat([sample["logits"] for sample in data_samples]).detach()
        labels, indices = data_batch.labels, data_batch.indices
        if len(logits) != len(labels):
            raise LTBenchError(f"got {len(logits)} rows of logits for {len(labels)} labels")
        if logits.shape[1] != len(self.counts):
            raise LTBenchError(
                f"logits have {logits.shape[1]} classes, the training counts {len(self.counts)}; "
                "give the metric the counts of the dataset that the model was trained on"
            )
        self.results.append((*reduce_logits(logits), labels, indices))

    def evaluate(self, size: int) -> dict:
        """Scores over the split.

        Args:
            size: samples in the split.

        Returns:
            ``<prefix>/overall`` and so on in percent; a group without a class is left out.

        Raises:
            LTBenchError: no sample was processed, or samples of the split are missing.
        """
        if not self.results:
            raise LTBenchError("there is nothing to evaluate: no batch was processed")
        # One entry a rank: MMEngine interleaves entries and cuts them to ``size``, which is right
        # for entries of one sample only.
        columns = (torch.cat(column).cpu() for column in zip(*self.results, strict=True))
        self.results = [(*columns, size)]
        return super().evaluate(size)

    def compute_metrics(self, results: list) -> dict:
        """Scores of what all ranks have processed: one entry a rank."""
        size = results[0][-1]
        predictions, confidence, labels, indices = (
            torch.cat(column) for column in list(zip(*results, strict=True))[:-1]
        )
        if int(indices.min()) < 0 or int(indices.max()) >= size:
            raise LTBenchError(f"a sample's index lies outside of the split's {size} samples")
        seen = torch.zeros(size, dtype=torch.bool)
        seen[indices] = True
        if not bool(seen.all()):
            raise LTBenchError(
                f"{int((~seen).sum())} of the split's {size} samples were not evaluated; "
                "evaluate with a loader that visits each sample"
            )
        place = torch.empty(size, dtype=torch.int64)
        place[indices] = torch.arange(len(indices))  # of a repeated sample, one visit counts
        scores = evaluate_predictions(
            predictions[place], confidence[place], labels[place], self.counts, self.convention
        )
        values = {name: getattr(scores, name) for name in PERCENTAGES}
        return {name: value for name, value in values.items() if value is not None}
