"""The projection of contrastive losses."""

from __future__ import annotations

import copy

import pytest
import torch

from lt_bench.models.projection import BatchNormOfRows, ProjectionMLP


def _features(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0))


def test_projection_equals_the_slow_one() -> None:
    torch.manual_seed(0)
    mlp, x = ProjectionMLP(5, 7, 3).double(), _features().double()
    first, norm, _, last = mlp.layers
    hidden = [
        [sum(w * v for w, v in zip(ws, row, strict=True)) + b for ws, b in zip(*p, strict=True)]
        for p in [(first.weight.tolist(), first.bias.tolist())]
        for row in x.tolist()
    ]
    columns = list(zip(*hidden, strict=True))
    means = [sum(c) / 6 for c in columns]
    variances = [sum((v - m) ** 2 for v in c) / 6 for c, m in zip(columns, means, strict=True)]
    result = mlp(x)
    for i in range(6):
        cut = [
            max(0.0, (v - m) / (s + norm.eps) ** 0.5)
            for v, m, s in zip(hidden[i], means, variances, strict=True)
        ]
        out = [
            sum(w * v for w, v in zip(ws, cut, strict=True)) + b
            for ws, b in zip(last.weight.tolist(), last.bias.tolist(), strict=True)
        ]
        length = sum(v * v for v in out) ** 0.5
        assert result[i].tolist() == pytest.approx([v / length for v in out], abs=1e-9)


def test_one_row_is_normalised_by_running_statistics_and_leaves_them() -> None:
    norm = BatchNormOfRows(5)
    norm(3 * _features() + 1)
    before = copy.deepcopy(norm.state_dict())
    row = _features(1)
    result = norm(row)
    expected = (row - before["running_mean"]) / (before["running_var"] + norm.eps).sqrt()
    torch.testing.assert_close(result, expected)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    norm.eval()
    torch.testing.assert_close(norm(row), expected)


def test_more_rows_are_torchs_batch_norm() -> None:
    ours, theirs, x = BatchNormOfRows(5), torch.nn.BatchNorm1d(5), _features()
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("x", [_features(1), torch.ones(4, 5), torch.zeros(4, 5), 1e6 * _features()])
def test_extremes_are_finite(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    mlp, x = ProjectionMLP(5, 7, 3), x.clone().requires_grad_()
    out = mlp(x)
    out.square().mul(torch.arange(3.0)).sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()
    torch.testing.assert_close(out.norm(dim=1), torch.ones(len(x)))
