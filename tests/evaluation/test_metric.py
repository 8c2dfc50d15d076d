"""The metric gives what the pure functions give, on one rank and on two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.metric import ShotMetric
from lt_bench.evaluation.report import PERCENTAGES, evaluate
from lt_bench.registry import METRICS

COUNTS = [200, 80, 80, 4, 2]


class Batch(NamedTuple):
    labels: Tensor
    indices: Tensor


def split(size=47):
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(5, (size,), generator=generator)
    return torch.randn(size, 5, generator=generator), labels


def feed(metric, logits, labels, batches):
    for indices in batches:
        metric.process(Batch(labels[indices], indices), [{"logits": logits[indices]}])


def expected_values(logits, labels, counts):
    scores = evaluate(logits, labels, torch.tensor(counts), "paper")
    values = {f"shot/{name}": getattr(scores, name) for name in PERCENTAGES}
    return {name: value for name, value in values.items() if value is not None}


def test_batches_in_any_order_give_the_scores():
    logits, labels = split()
    metric = METRICS.build({"type": "shot_metric", "convention": "paper", "counts": COUNTS})
    assert isinstance(metric, ShotMetric)
    order = torch.randperm(47, generator=torch.Generator().manual_seed(0))
    feed(metric, logits, labels, order.split(10))
    assert metric.evaluate(47) == expected_values(logits, labels, COUNTS)
    assert metric.results == []


def test_counts_come_from_the_dataset_and_an_empty_group_is_left_out():
    logits, labels = split()
    metric = ShotMetric("paper")
    with pytest.raises(LTBenchError, match="needs training counts"):
        feed(metric, logits, labels, [torch.arange(47)])
    metric.dataset_meta = {"counts": [200, 200, 200, 3, 3]}
    feed(metric, logits, labels, [torch.arange(47)])
    found = metric.evaluate(47)
    assert found == expected_values(logits, labels, [200, 200, 200, 3, 3])
    assert "shot/medium" not in found and "shot/many" in found


def test_missing_samples_and_no_samples_are_refused():
    logits, labels = split()
    metric = ShotMetric("paper", COUNTS)
    with pytest.raises(LTBenchError, match="no batch was processed"):
        metric.evaluate(47)
    feed(metric, logits, labels, [torch.arange(40)])
    with pytest.raises(LTBenchError, match="7 of the split's 47 samples were not evaluated"):
        metric.evaluate(47)


def test_faulty_logits_are_refused():
    logits, labels = split()
    with pytest.raises(LTBenchError, match="did you mean 'paper'"):
        ShotMetric("papers", COUNTS)
    with pytest.raises(LTBenchError, match="5 classes, the training counts 3"):
        feed(ShotMetric("paper", COUNTS[:3]), logits, labels, [torch.arange(47)])
    with pytest.raises(LTBenchError, match="47 rows of logits for 40 labels"):
        batch = Batch(labels[:40], torch.arange(40))
        ShotMetric("paper", COUNTS).process(batch, [{"logits": logits}])
    metric = ShotMetric("paper", COUNTS)
    logits[3] = torch.nan
    feed(metric, logits, labels, [torch.arange(47)])
    with pytest.raises(LTBenchError, match="1 of 47 samples are NaN or infinite .*sample 3"):
        metric.evaluate(47)


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    logits, labels = split()
    # 47 samples on two ranks in batches of 8: rank 1 has one batch less, and repeats sample 0, as a
    # sampler does that fills up the last batch.
    order = torch.arange(47)
    mine = [order[:8], order[16:24], order[32:40]] if rank == 0 else [order[8:16], order[24:32]]
    tail = torch.tensor([40, 41, 42, 43]) if rank == 0 else torch.tensor([44, 45, 46, 0])
    metric = ShotMetric("paper", COUNTS)
    feed(metric, logits, labels, [*mine, tail])
    torch.save(metric.evaluate(47), f"{folder}/rank_{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_same_scores(tmp_path: Path):
    from tests.ranks import need_gloo  # not where this file is a script

    need_gloo()
    # Each rank runs this file as a script: how tests are imported does not matter then.
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    logits, labels = split()
    for rank in range(2):
        found = torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True)
        assert found == expected_values(logits, labels, COUNTS)
    left = {path.name for path in tmp_path.iterdir()} - {"meet"}
    assert left == {"rank_0.pt", "rank_1.pt"}  # nothing was pickled into the working folder


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), sys.argv[2])
