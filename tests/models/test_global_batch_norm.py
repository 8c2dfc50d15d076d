"""Batch norm over two gloo processes against torch's on the whole batch, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lt_bench.models.global_batch_norm import GlobalBatchNorm, with_global_batch_norm
from tests.ranks import run_script

CASES = {
    "images": ((7, 3, 4, 5), {}),
    "rows": ((5, 4), {}),
    # All of which the first rank has.
    "images of one rank": ((2, 3, 4, 5), {}),
    "rows of one rank": ((2, 3), {}),
    "no parameters": ((6, 2, 3, 3), {"affine": False}),
    "cumulative": ((6, 2, 3, 3), {"momentum": None}),
    "no running": ((4, 3), {"track_running_stats": False}),
}
SCRIPT = """
import sys, torch
import torch.distributed as dist
from torch import nn
from lt_bench.models.global_batch_norm import with_global_batch_norm
from tests.models.test_global_batch_norm import CASES, made

dist.init_process_group("gloo")
rank, found = dist.get_rank(), {}
for name in CASES:
    norm, batches, given = made(name)
    model = with_global_batch_norm(nn.Sequential(norm), torch.device("cpu"))
    # Rank 0 has two samples, rank 1 all others, or none.
    own = slice(0, 2) if rank == 0 else slice(2, None)
    outputs = []
    for batch in batches:
        x = batch[own].clone().requires_grad_(True)
        outputs.append(model(x))
    (outputs[-1] * given[own]).sum().backward()
    model.eval()
    found[name] = {
        "outputs": [o.detach() for o in outputs], "input": x.grad, "eval": model(batches[0][own]).detach(),
        "parameters": [p.grad for p in model.parameters()], "state": model.state_dict(),
    }
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
dist.destroy_process_group()
"""


def made(name: str) -> tuple[nn.Module, list[torch.Tensor], torch.Tensor]:
    shape, options = CASES[name]
    draw = torch.Generator().manual_seed(len(name))
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    norm = kind(shape[1], **options).double()
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 2, generator=draw)
    batches = [100 + 3 * torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2)]
    return norm, batches, torch.randn(shape, generator=draw, dtype=torch.float64)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    run_script(SCRIPT, str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_batch(ranks: list[dict], name: str) -> None:
    norm, batches, given = made(name)
    outputs = []
    for batch in batches:
        x = batch.clone().requires_grad_(True)
        outputs.append(norm(x))
    (outputs[-1] * given).sum().backward()
    for step, output in enumerate(outputs):
        torch.testing.assert_close(torch.cat([r[name]["outputs"][step] for r in ranks]), output.detach())
    torch.testing.assert_close(torch.cat([r[name]["input"] for r in ranks]), x.grad)
    for index, parameter in enumerate(norm.parameters()):
        torch.testing.assert_close(sum(r[name]["parameters"][index] for r in ranks), parameter.grad)
    for rank in ranks:
        state = {key.removeprefix("0."): value for key, value in rank[name]["state"].items()}
        torch.testing.assert_close(state, dict(norm.state_dict()))
    if norm.track_running_stats:
        norm.eval()
        torch.testing.assert_close(torch.cat([r[name]["eval"] for r in ranks]), norm(batches[0]).detach())


def test_one_value_a_channel_leaves_finite_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_gather", lambda every, mine: every[0].copy_(mine))
    norm = GlobalBatchNorm(3).train()
    norm(torch.tensor([[1.0, 2.0, 3.0]]))
    assert norm.running_mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert norm.running_var.tolist() == pytest.approx([0.9, 0.9, 0.9])


def test_conversion_keeps_tensors_names_and_mode() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2, eps=0.1)), nn.InstanceNorm2d(2))
    model[1].eval()
    before, parameters = model.state_dict(keep_vars=True), list(model.parameters())
    converted = with_global_batch_norm(model, torch.device("cpu"))
    assert converted is model
    norm = model[1][0]
    assert isinstance(norm, GlobalBatchNorm) and norm.eps == 0.1 and not norm.training
    assert type(model[2]) is nn.InstanceNorm2d
    after = model.state_dict(keep_vars=True)
    assert list(before) == list(after) and all(before[key] is after[key] for key in before)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
