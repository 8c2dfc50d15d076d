"""The model of stage 1: backbone, pooled features, head; and the numerics it runs under."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from lt_bench.arguments import is_whole
from lt_bench.errors import LTBenchError
from lt_bench.models.compiled import MODES, begin_step, compiled_forward
from lt_bench.models.pretrained import check_weights, on_this_disk
from lt_bench.registry import MODELS

# More than any machine has cores; far more end the process.
MOST_THREADS = 1024


@dataclass(frozen=True)
class Numerics:
    """How numbers are held while the model runs; part of stage 1's identity.

    Attributes:
        precision: ``fp32`` (no TF32 on a GPU), or ``bf16`` for bfloat16 autocast around the forward pass.
        channels_last: NHWC memory layout of images and convolution weights.
        threads: CPU threads of an operation; None leaves torch's choice. A sum over several threads is
            rounded in another order, so this decides bits; for a very small model 1 is also fastest.
        batch_norm: on several ranks, whose statistics batch norm takes: ``global``, those of the global
            batch, so that the number of ranks changes nothing; or ``rank``, those of each rank's share,
            which saves a collective a layer (and, on GPUs, the wait for the device by which torch's
            ``SyncBatchNorm`` reads back which ranks have images) and trains another network.
        compile: None, or a mode of PyTorch's compiler for the backbone's training forward, ``default`` or
            ``reduce-overhead`` (CUDA graphs); see :mod:`lt_bench.models.compiled`.
    """

    precision: str = "fp32"
    channels_last: bool = False
    threads: int | None = None
    batch_norm: str = "global"
    compile: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise LTBenchError(f"stage1.numerics.precision is 'fp32' or 'bf16', got {self.precision!r}")
        if self.threads is not None and not (is_whole(self.threads, 1) and self.threads <= MOST_THREADS):
            raise LTBenchError(
                f"stage1.numerics.threads is a whole number from 1 to {MOST_THREADS}, got {self.threads!r}"
            )
        if self.batch_norm not in ("global", "rank"):
            raise LTBenchError(f"stage1.numerics.batch_norm is 'global' or 'rank', got {self.batch_norm!r}")
        if self.compile is not None and self.compile not in MODES:
            raise LTBenchError(
                f"stage1.numerics.compile is none or one of {', '.join(MODES)}; got {self.compile!r}"
            )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run under the stated number of threads and with exact, repeatable convolutions, then as before."""
        threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
        flags = cudnn.deterministic, cudnn.allow_tf32
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        # On a GPU, too, a resumed training equals the uninterrupted one, and float32 is not TF32.
        cudnn.deterministic, cudnn.allow_tf32 = True, False
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            cudnn.deterministic, cudnn.allow_tf32 = flags

    def autocast(self, device_type: str) -> torch.autocast:
        """The autocast context of the forward pass."""
        return torch.autocast(device_type, torch.bfloat16, enabled=self.precision == "bf16")


def build_backbone(cfg: dict[str, Any]) -> nn.Module:
    """Build a backbone of this project, or mmpretrain's when the type starts with ``mmpretrain.``.

    Pretrained weights (``init_cfg``) are checked here; MMEngine loads them when training starts.

    Raises:
        LTBenchError: arguments that the backbone does not take, or pretrained weights that do not fit it.
    """
    with warnings.catch_warnings():
        # mmcv-lite says what it lacks of mmcv; no backbone of an experiment needs it.
        warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")
        if str(cfg.get("type", "")).startswith("mmpretrain."):
            import mmpretrain.models  # noqa: F401  registers its backbones; seconds, so only on demand
        elif cfg.get("type") == "resnet10":
            import lt_bench.models.resnet10  # noqa: F401
    local = on_this_disk(cfg)
    try:
        backbone: nn.Module = MODELS.build(local)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # What mmpretrain has to say of a depth or a stage that there is none of, and torch of a width.
        raise LTBenchError(f"model.backbone of type {cfg['type']!r} does not build: {error}") from error
    check_weights(backbone, local.get("init_cfg"))
    return backbone


class StageOneModel(BaseModel):
    """Backbone, global average pooling, head.

    Args:
        backbone: maps images to a feature map (B, d, h, w), to features (B, d), or to a tuple whose
            last entry is one of them.
        head: maps features (B, d) to logits (B, C).
        objective: ``(model, batch) -> scalar loss``, the representation method's loss. It is kept as
            a submodule where it is one, so that what it learns is trained and saved.
        numerics: precision and memory layout.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        objective: Callable[[StageOneModel, Any], Tensor],
        numerics: Numerics,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.objective = objective
        self.numerics = numerics
        if numerics.channels_last:
            self.backbone.to(memory_format=torch.channels_last)

    def feature_map(self, images: Tensor) -> Tensor:
        """What the backbone ends in, before pooling.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            (B, d, h, w) float32, or (B, d) where the backbone pools itself.
        """
        return self._backbone(images).float()

    def features(self, images: Tensor) -> Tensor:
        """Pooled features of a batch.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            (B, d) float32.
        """
        with self.numerics.autocast(images.device.type):
            out = self._backbone(images)
            if out.dim() == 4:
                out = out.mean(dim=(2, 3))
        # The loss and the snapshots want full precision, whatever the convolutions ran in.
        return out.float()

    def _backbone(self, images: Tensor) -> Tensor:
        # Evaluation stays as it is: what stage 2 and a table read does not hang on a compiler.
        mode = self.numerics.compile if self.training and torch.is_grad_enabled() else None
        with self.numerics.autocast(images.device.type):
            out = compiled_forward(mode, self.backbone, images) if mode else self.backbone(images)
        return out[-1] if isinstance(out, (tuple, list)) else out

    def forward(self, batch: Any, mode: str = "loss") -> Tensor:
        """The loss of a batch (``mode="loss"``), or its logits (B, C) (``mode="logits"``)."""
        if mode == "loss":
            if self.numerics.compile:
                begin_step()
            return self.objective(self, batch)
        return self.head(self.features(batch.images))

    def val_step(self, data: Any) -> list[dict[str, Tensor]]:
        """Logits of a validation batch, as :class:`lt_bench.evaluation.metric.ShotMetric` takes them."""
        return [{"logits": self(data, mode="logits").float()}]
