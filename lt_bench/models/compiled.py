"""A backbone's training forward through PyTorch's compiler.

Batch norm, activations and sums, which bfloat16 hardly speeds up, are fused: one pass over memory for
several. The results are rounded in another order, so this is part of a stage 1's numerics.

Every shape of a batch is compiled by itself: a kernel for all of them would take over when a second one
comes, and a training that is resumed meets its shapes in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from lt_bench.errors import LTBenchError

# The compiler's modes that time no candidates: what those choose, and with it every bit, may change from
# one call to the next.
MODES = ("default", "reduce-overhead")
# Shapes, precisions and kinds of backbone that a process compiles. By itself the compiler would give up after
# a few without a word, and what comes after would be rounded as uncompiled code does.
LIMIT = 64


def _forward(backbone: nn.Module, images: Tensor) -> Any:
    return backbone(images)


@cache
def _compiled(mode: str) -> Callable[[nn.Module, Tensor], Any]:
    from torch._dynamo import config

    # For the whole process: to patch them around every call would cost a step 50 microseconds.
    for name, value in _limits(config).items():
        setattr(config, name, value)
    options: dict[str, Any] = {"triton.cudagraphs": mode == "reduce-overhead"}
    if "deterministic" in torch._inductor.list_options():
        options["deterministic"] = True
    call: Callable[[nn.Module, Tensor], Any] = torch.compile(_forward, dynamic=False, options=options)
    return call


def _limits(config: Any) -> dict[str, Any]:
    # torch 2.6 has the older names.
    newer = hasattr(config, "recompile_limit")
    names = (
        ("recompile_limit", "fail_on_recompile_limit_hit")
        if newer
        else ("cache_size_limit", "fail_on_cache_limit_hit")
    )
    return dict(zip(names, (LIMIT, True), strict=True))


def compiled_forward(mode: str, backbone: nn.Module, images: Tensor) -> Any:
    """``backbone(images)``, compiled where it meets what it has not met before.

    Args:
        mode: one of :data:`MODES`. ``reduce-overhead`` replays a GPU's kernels as CUDA graphs, and is
            ``default`` elsewhere.
        backbone: any module of one input.
        images: (B, channels, H, W) floating point.

    Raises:
        LTBenchError: there is no working compiler, it cannot compile this backbone, or this process had it
            compile more than :data:`LIMIT` cases.
    """
    from torch._dynamo import exc

    # As of its limits, torch 2.6 has the older name.
    newer = hasattr(exc, "FailOnRecompileLimitHit")
    limit_hit = getattr(exc, "FailOnRecompileLimitHit" if newer else "FailOnCacheLimitHit")
    try:
        return _compiled(mode)(backbone, images)
    except exc.BackendCompilerFailed as error:
        # Not the error's own text: that of torch 2.6 begins with a line without the reason.
        reason = str(error.inner_exception).strip().partition("\n")[0]
        raise LTBenchError(
            f"the backbone does not compile ({reason}); install a C++ compiler (for a GPU gcc or clang, and "
            "Python's headers), name one in CXX (for a GPU in CC), or leave stage1.numerics.compile out"
        ) from error
    except limit_hit as error:
        raise LTBenchError(
            f"the backbone was compiled for {LIMIT} shape{'s' * (LIMIT > 1)} of a batch and met another "
            f"one, {tuple(images.shape)}; leave stage1.numerics.compile out"
        ) from error


def begin_step() -> None:
    """Say that what the last step's calls gave is no longer read: CUDA graphs reuse its memory."""
    torch.compiler.cudagraph_mark_step_begin()
