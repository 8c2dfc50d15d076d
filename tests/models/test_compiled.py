"""The compiled training forward: the gradients of the uncompiled one, and nothing else changed."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, nn

import lt_bench.models.compiled as compiled_module
import lt_bench.models.stage_one as stage_one_module
from lt_bench.errors import LTBenchError
from lt_bench.models.stage_one import Numerics, StageOneModel, build_backbone
from tests.engine.test_resume import Killed, assert_same_run, scores, stop_in_step

HAS_COMPILER = bool(os.environ.get("CXX") or shutil.which("g++"))
need_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="there is no C++ compiler")
# One block a stage: every kind of layer of ResNet-32, compiled in seconds.
SMALL = {"type": "cifar_resnet", "depth": 8, "width": 4}
SMALLER = {"type": "small_convnet", "in_channels": 3, "width": 4}


def model(compile: str | None, backbone: dict = SMALL, **numerics: object) -> StageOneModel:
    torch.manual_seed(0)
    network = build_backbone(dict(backbone))
    head = nn.Linear(network.feature_dim, 5)
    return StageOneModel(
        network, head, lambda model, batch: None, Numerics(compile=compile, **numerics)
    ).train()


def batch(size: int = 12) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(size)
    images = torch.randn(size, 3, 16, 16, generator=draw, dtype=torch.float64)
    return images, torch.randint(5, (size,), generator=draw)


def step(network: StageOneModel, images: Tensor, labels: Tensor) -> Tensor:
    """Loss and gradients of a step, one vector."""
    network.zero_grad()
    loss = F.cross_entropy(network.head(network.features(images)), labels)
    loss.backward()
    return torch.cat(
        [loss.detach()[None].double(), *(p.grad.double().flatten() for p in network.parameters())]
    )


def ran_compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that go through the compiler from here on."""
    shapes: list[tuple[int, ...]] = []

    def call(mode: str, backbone: nn.Module, images: Tensor) -> object:
        shapes.append(tuple(images.shape))
        return compiled_module.compiled_forward(mode, backbone, images)

    monkeypatch.setattr(stage_one_module, "compiled_forward", call)
    return shapes


@need_compiler
def test_step_is_the_uncompiled_one_in_float64() -> None:
    """Loss, gradients and batch norm's running statistics, of the model and of a copy of it."""
    eager, compiled = model(None), model("default")
    for network in (eager, compiled):
        network.backbone.double()
    images, labels = batch()
    for _ in range(2):
        one, two = step(eager, images, labels), step(compiled, images, labels)
        # ``features`` hands float32 on.
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
    one, two = eager.state_dict(), compiled.state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, msg=name)
    copied = copy.deepcopy(compiled)
    for network in (copied, eager):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.5)
    torch.testing.assert_close(
        step(copied, images, labels), step(eager, images, labels), rtol=1e-5, atol=1e-6
    )


@need_compiler
def test_bf16_is_no_further_from_fp32_than_uncompiled() -> None:
    images, labels = batch(64)
    images = images.float().contiguous(memory_format=torch.channels_last)
    exact = step(model(None, SMALLER), images, labels)
    fast = {"precision": "bf16", "channels_last": True}
    eager, compiled = (step(model(mode, SMALLER, **fast), images, labels) for mode in (None, "default"))
    assert (compiled - exact).norm() < 1.5 * (eager - exact).norm()


@need_compiler
def test_only_training_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = ran_compiled(monkeypatch)
    eager, compiled = model(None, SMALLER), model("default", SMALLER)
    images = batch()[0].float()
    with torch.no_grad():
        torch.testing.assert_close(compiled.features(images), eager.features(images), rtol=0, atol=0)
        for network in (eager, compiled):
            network.eval()
        torch.testing.assert_close(compiled.features(images), eager.features(images), rtol=0, atol=0)
    assert shapes == []
    step(compiled.train(), images, batch()[1])
    assert shapes == [(12, 3, 16, 16)]


def test_limits_go_by_the_names_that_this_torch_has() -> None:
    assert all(hasattr(torch._dynamo.config, name) for name in compiled_module._limits(torch._dynamo.config))
    older = compiled_module._limits(SimpleNamespace(cache_size_limit=8))
    assert older == {"cache_size_limit": compiled_module.LIMIT, "fail_on_cache_limit_hit": True}


@pytest.fixture()
def one_shape(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that compiles one shape of a batch and no more."""
    with monkeypatch.context() as patch:
        patch.setattr(compiled_module, "LIMIT", 1)
        compiled_module._compiled.cache_clear()
        torch.compiler.reset()
        yield
    # The limits are set where something is compiled first.
    compiled_module._compiled.cache_clear()


@need_compiler
def test_one_shape_too_many(one_shape: None) -> None:
    network = model("default", SMALLER)
    network.features(torch.randn(2, 3, 16, 16))
    with pytest.raises(LTBenchError, match=r"1 shape of a batch and met another one, \(4, 3, 16, 16\)"):
        network.features(torch.randn(4, 3, 16, 16))


def test_the_limit_is_told_under_the_older_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(Exception):
        """As torch 2.6 calls it."""

    def met(mode: str) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            raise Older

        return call

    monkeypatch.delattr(torch._dynamo.exc, "FailOnRecompileLimitHit", raising=False)
    monkeypatch.setattr(torch._dynamo.exc, "FailOnCacheLimitHit", Older, raising=False)
    monkeypatch.setattr(compiled_module, "_compiled", met)
    with pytest.raises(LTBenchError, match=r"met another one, \(4, 3, 16, 16\)"):
        compiled_module.compiled_forward("default", nn.Identity(), torch.randn(4, 3, 16, 16))


@need_compiler
def test_backbones_of_experts_compile() -> None:
    backbone = {"type": "expert_convnet", "in_channels": 3, "width": 4, "experts": 2}
    one, two = (model(mode, backbone).feature_map(batch()[0].float()) for mode in (None, "default"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@need_compiler
def test_training_resumes_bit_for_bit(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shapes = ran_compiled(monkeypatch)
    experiment = short("breadcrumb_strong", **{"stage1.numerics.compile": "default"})
    straight = launch(experiment, folder="straight")
    assert len({shape[0] for shape in shapes}) == 2, "a full batch and the last one"
    with monkeypatch.context() as patched:
        stop_in_step(patched)
        with pytest.raises(Killed):
            launch(experiment, folder="stopped")
    torch.compiler.reset()
    resumed = launch(experiment, folder="stopped", unfinished="resume")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")
    assert scores(straight) == scores(resumed)


def test_without_a_compiler_the_run_ends_with_a_sentence(tmp_path: Path) -> None:
    words = ["run", "digits_lt/plain", "--work-dir", str(tmp_path), "--records", str(tmp_path / "records")]
    result = subprocess.run(
        [sys.executable, "-m", "lt_bench.cli", *words, "--cfg-options", "stage1.numerics.compile=default"],
        env={
            **os.environ,
            "CXX": "/nonexistent/c++",
            "CUDA_VISIBLE_DEVICES": "",
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "the backbone does not compile (" in result.stderr
    assert "No working C++ compiler" in result.stderr and "name one in CXX" in result.stderr
    assert not list((tmp_path / "records").glob("**/*.json"))


def test_modes_that_choose_by_time_are_refused() -> None:
    with pytest.raises(
        LTBenchError, match="compile is none or one of default, reduce-overhead; got 'max-autotune'"
    ):
        Numerics(compile="max-autotune")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_give_the_uncompiled_step() -> None:
    eager, graphs = model(None).cuda(), model("reduce-overhead").cuda()
    optimisers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in (eager, graphs)]
    for size in (12, 12, 12, 7, 12):
        images, labels = (part.cuda() for part in batch(size))
        compiled_module.begin_step()
        with Numerics().applied():  # as a run is, without TF32
            one, two = step(eager, images.float(), labels), step(graphs, images.float(), labels)
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
        for optimiser in optimisers:
            optimiser.step()


def test_a_second_stage_is_not_compiled(
    short: Callable, launch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def call(mode: str, backbone: nn.Module, images: Tensor) -> Tensor:
        calls.append(mode)
        return backbone(images)

    monkeypatch.setattr(stage_one_module, "compiled_forward", call)
    options = {"stage1.epochs": 1, "stage1.numerics.compile": "default"}
    launch(short("plain", **options))
    of_stage_1 = len(calls)
    launch(short("oltr", **options, **{"method.classifier.epochs": 1}))
    assert len(calls) == of_stage_1 > 0
