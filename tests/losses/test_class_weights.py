"""Class weights and the deferred switch against the formulas, slowly."""

from __future__ import annotations

import pytest
import torch

from lt_bench.deferred import has_switched, switch_epoch
from lt_bench.errors import LTBenchError
from lt_bench.losses.class_weights import effective_number_weights


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999])
def test_weights_follow_the_effective_number(beta: float) -> None:
    counts = [1, 2, 37, 500, 4980]
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    expected = [w * len(raw) / sum(raw) for w in raw]
    weights = effective_number_weights(torch.tensor(counts), beta)
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-6, atol=0)
    assert float(weights.sum()) == pytest.approx(len(counts))


@pytest.mark.parametrize("beta", [1.0, -0.1, float("nan")])
def test_other_betas_are_refused(beta: float) -> None:
    with pytest.raises(LTBenchError, match="from 0 to below 1"):
        effective_number_weights(torch.tensor([3, 1]), beta)


def test_a_class_without_images_is_refused() -> None:
    with pytest.raises(LTBenchError, match="at least one training image"):
        effective_number_weights(torch.tensor([3, 0]), 0.9)


@pytest.mark.parametrize(
    ("epochs", "fraction", "last"), [(200, 0.8, 160), (10, 0.7, 7), (5, 0.8, 4), (1, 0.8, 0)]
)
def test_the_switch_scales_with_the_schedule(epochs: int, fraction: float, last: int) -> None:
    assert switch_epoch(epochs, fraction) == last


def test_the_epoch_after_the_last_one_before_the_switch_is_behind_it() -> None:
    behind = [epoch for epoch in range(1, 201) if has_switched(epoch, 200, 0.8)]
    assert behind == list(range(161, 201))
    assert not has_switched(7, 7, 1.0) and has_switched(1, 7, 0.0)


@pytest.mark.parametrize("fraction", [160, -0.1, float("nan"), "0.8", True])
def test_a_fraction_is_a_fraction(fraction: float) -> None:
    with pytest.raises(LTBenchError, match="in 0 to 1"):
        switch_epoch(200, fraction)
