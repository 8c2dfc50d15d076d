"""tau-normalisation's 21 candidates, scored in one pass, against one evaluation of one classifier.

One *evaluation* is what it takes to score a classifier on a split: the images of the split through the
backbone in evaluation mode, features through the linear classifier, logits to scores
(:func:`lt_bench.evaluation.report.evaluate`: every accuracy, macro-F1 and ECE). Choosing tau needs the
same forward pass and scores 21 classifiers instead of one. Two ratios are reported, no time is asserted:

``ratio``            (forward + 21 tau) / (forward + one scoring); the goal is at most 1.5
``ratio_scoring``    21 tau / one scoring, both from the same features, without the forward pass

The forward pass is a lower bound of a real one: images lie decoded and normalised in memory; the CIFAR
shape uses a ResNet-8, a fifth of the ResNet-32 of the CIFAR tables; and the ImageNet shape, a ResNet-10
at 224 x 224, is timed on one batch and multiplied (``forward_images`` says how many were timed).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lt_bench.evaluation.report import evaluate
from lt_bench.models.resnet_cifar import CifarResNet
from methods.tau_norm import tau_accuracies

THREADS = torch.get_num_threads()  # as the machine has them, not the one of other tests
TAUS = torch.linspace(0, 2, 21, dtype=torch.float64).tolist()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The shortest of ``repeats`` runs, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def imagenet_backbone() -> nn.Module:
    from lt_bench.models.resnet10 import ResNet10  # imports mmpretrain, which takes seconds

    return ResNet10()


@pytest.mark.benchmark_suite
@pytest.mark.parametrize(
    ("backbone", "side", "samples", "dim", "classes", "timed_images"),
    [
        pytest.param(lambda: CifarResNet(depth=8), 32, 10_000, 64, 100, 10_000, id="cifar100"),
        pytest.param(imagenet_backbone, 224, 20_000, 512, 1000, 64, id="imagenet"),
    ],
)
def test_21_taus_against_one_evaluation(benchmark, backbone, side, samples, dim, classes, timed_images):
    torch.set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % classes
    features = torch.randn(samples, dim, generator=generator).relu()
    weight = torch.randn(classes, dim, generator=generator)
    counts = torch.linspace(500, 5, classes).long()
    model = backbone()
    model.eval()
    batch = torch.randn(min(500, timed_images), 3, side, side, generator=generator)

    def forward() -> None:
        for _ in range(timed_images // len(batch)):
            model(batch)

    def score_one() -> object:
        return evaluate(features @ weight.T, labels, counts, "strict")

    def score_all() -> Tensor:
        return tau_accuracies(features, labels, weight, TAUS)

    with torch.inference_mode():
        forward_seconds = seconds(forward, repeats=1) * samples / timed_images
        one = seconds(score_one, repeats=5)
        accuracies = benchmark.pedantic(score_all, rounds=5, warmup_rounds=1)
        expected = score_one().mean_class / 100
    # tau = 0 leaves the classifier as it is: the two ways agree on what they both score.
    assert float(accuracies[0]) == pytest.approx(expected, abs=2e-4)
    assert len(accuracies) == 21
    if benchmark.stats is not None:
        many = benchmark.stats.stats.min
        benchmark.extra_info.update(
            ratio=(forward_seconds + many) / (forward_seconds + one),
            ratio_scoring=many / one,
            goal=1.5,
            forward_seconds=forward_seconds,
            forward_images=timed_images,
            one_scoring_seconds=one,
            threads=torch.get_num_threads(),
        )
