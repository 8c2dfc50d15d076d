"""Figure 5b: counts against loops, and a replay that gives the very classifiers of the run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lt_bench.commands.options import parse_options
from lt_bench.engine.stage1 import follower_name
from lt_bench.figures.finished_stage import finished_stage
from lt_bench.figures.hard_examples import HardExampleCounter, count_hard, hard_examples
from lt_bench.fitting import HeadRecipe, HeadTrainer, shuffled_batches
from lt_bench.method import FollowingClassifier
from lt_bench.registry import METHODS
from tests.figures.conftest import OPTIONS

COUNTED = torch.tensor([False, True, False, True])


def slow_count(logits: torch.Tensor, labels: torch.Tensor, threshold: float) -> list[int]:
    hard = examples = 0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        if COUNTED[label]:
            examples += 1
            hard += math.log(sum(math.exp(value) for value in row)) - row[label] > threshold
    return [hard, examples]


@pytest.mark.parametrize("seed", range(4))
def test_count_against_a_loop(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(60, 4, generator=draw)
    labels = torch.randint(0, 4, (60,), generator=draw)
    expected = slow_count(logits, labels, 2.0)
    assert 0 < expected[0] < expected[1]
    assert count_hard(logits, labels, COUNTED, 2.0).tolist() == expected


def test_the_counter_sees_every_step_before_its_update_and_changes_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    features = 3 * torch.randn(40, 5, generator=draw)
    labels = torch.randint(0, 4, (40,), generator=draw)

    def trained(watch: HardExampleCounter | None) -> tuple[torch.nn.Linear, list[list[int]]]:
        torch.manual_seed(1)
        head = torch.nn.Linear(5, 4)
        trainer = HeadTrainer(head, HeadRecipe(epochs=3, batch_size=16), torch.device("cpu"))
        trainer.watch = watch
        expected = []
        for epoch in range(1, 4):
            order = torch.Generator().manual_seed(epoch)
            counts = [0, 0]

            def looked_at(batches, counts=counts):
                for batch, own in batches:
                    found = slow_count(head(batch), own, 1.0)
                    counts[0] += found[0]
                    counts[1] += found[1]
                    yield batch, own

            trainer.epoch(epoch, looked_at(shuffled_batches(features, labels, 16, order)))
            expected.append([epoch, *counts])
        return head, expected

    counter = HardExampleCounter(COUNTED, 1.0)
    watched, expected = trained(counter)
    alone, _ = trained(None)
    assert torch.equal(watched.weight, alone.weight)
    assert counter.by_epoch().to_numpy().tolist() == expected
    assert list(counter.by_epoch().columns) == ["epoch", "hard", "examples"]


def test_the_replay_is_the_run(trained: Path) -> None:
    """Strong: the weights that followed the training; both: as many epochs and examples as in the run."""
    options = parse_options(OPTIONS)
    with finished_stage("digits_lt/breadcrumb_strong", 0, options, trained) as (job, stage):
        config = job.experiment.config["method"]["classifier"]
        found: list[torch.Tensor] = []
        classifier = METHODS.build({**config, "task": stage.task})
        assert isinstance(classifier, FollowingClassifier)
        head = classifier.fit(stage, lambda epoch, logits, labels: found.append(logits)).head
        state = stage.follower_state(follower_name(config))
        assert state is not None and found and not found[0].requires_grad
        for name, tensor in head.state_dict().items():
            assert torch.equal(tensor, state["trainer"]["head"][name])
        counts = hard_examples(stage, config, ("train", "val", "test"), 0.5)
    own = counts.set_index("variant")
    few = int((stage.task.groups == 2).sum())
    assert own.loc["strong", "epoch"].tolist() == list(range(1, 11))
    assert own.loc["weak", "epoch"].tolist() == [1, 2, 3]
    n_b = -(-stage.task.num_samples // stage.task.num_classes)
    assert (counts["examples"] == few * n_b).all()
    assert 0 < own.loc["strong", "hard"].sum() < own.loc["strong", "examples"].sum()


def test_losses_are_cross_entropies() -> None:
    """The method's own loss may be another; an example is hard by its cross-entropy."""
    logits, labels = torch.tensor([[0.0, 6.0, 0.0, 0.0]]), torch.tensor([3])
    loss = float(F.cross_entropy(logits, labels))
    assert count_hard(logits, labels, COUNTED, loss - 1e-3).tolist() == [1, 1]
    assert count_hard(logits, labels, COUNTED, loss + 1e-3).tolist() == [0, 1]
