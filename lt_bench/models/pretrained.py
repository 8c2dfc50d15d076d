"""Weights that a backbone starts from: found or fetched, known by their content, checked.

A config names them as mmpretrain does, ``backbone.init_cfg=dict(type="Pretrained", checkpoint=...)``: by a
path, a ``file://`` address, or an ``https://`` address, which is fetched once into torch.hub's folder
(``$TORCH_HOME/hub/checkpoints``). MMEngine loads them without a word of what is missing; here a file that
does not hold every tensor of the backbone is refused.

What decides the result is the content: in identities and records sha256 stands for the place.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import torch
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from lt_bench.errors import LTBenchError

WHERE = "model.backbone.init_cfg.checkpoint"
# torch.hub's custom: a file's name ends in the first digits of its sha256.
_NAMED_DIGEST = re.compile(r"-([0-9a-f]{8,})\.\w+$")


def by_content(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config with ``sha256:<hex>`` of its pretrained weights in place of their address.

    Raises:
        LTBenchError: see :func:`weights_file`.
    """
    return _with_weights(model, lambda checkpoint: f"sha256:{_sha256(weights_file(checkpoint))}")


def on_this_disk(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """A backbone's config with the path of its pretrained weights in place of their address.

    Raises:
        LTBenchError: see :func:`weights_file`.
    """
    return _with_weights(backbone, lambda checkpoint: str(weights_file(checkpoint)))


def _with_weights(config: Any, place: Callable[[Any], str]) -> Any:
    if isinstance(config, list):
        return [_with_weights(item, place) for item in config]
    if not isinstance(config, Mapping):
        return config
    if config.get("type") == "Pretrained":
        return {**config, "checkpoint": place(config.get("checkpoint"))}
    return {key: _with_weights(value, place) for key, value in config.items()}


def weights_file(checkpoint: Any) -> Path:
    """The file of pretrained weights, fetched where it is an address that was not fetched before.

    Args:
        checkpoint: a path, or an address beginning with ``file://``, ``https://`` or ``http://``.

    Raises:
        LTBenchError: there is no such file, it cannot be fetched, or it is not what its name says.
    """
    if not isinstance(checkpoint, str) or not checkpoint:
        raise LTBenchError(
            f"{WHERE} is the path or the address of pretrained weights, got {checkpoint!r}; name a file, or "
            "set model.backbone.init_cfg=none to start from random weights"
        )
    address = urlparse(checkpoint)
    if address.scheme in ("https", "http"):
        return _fetched(checkpoint, PurePosixPath(address.path).name)
    file = Path(unquote(address.path) if address.scheme == "file" else checkpoint).expanduser()
    if not file.is_file():
        raise LTBenchError(f"there are no pretrained weights at {file}; set {WHERE} to where they lie")
    return file


def _fetched(address: str, name: str) -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # It writes beside the file and renames.
            torch.hub.download_url_to_file(address, str(file), progress=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise LTBenchError(
                f"pretrained weights cannot be fetched from {address} ({error}); fetch them elsewhere "
                f"and set {WHERE} to the file, or put it at {file}"
            ) from error
    named = _NAMED_DIGEST.search(name)
    if named is not None and not (digest := _sha256(file)).startswith(named[1]):
        raise LTBenchError(
            f"{file} is not what {address} gives: its sha256 begins with {digest[: len(named[1])]} and "
            f"not with {named[1]}; delete it, and it is fetched again"
        )
    return file


def _sha256(file: Path) -> str:
    try:
        state = file.stat()
        return _digest(file, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise LTBenchError(
            f"pretrained weights {file} cannot be read: {error.strerror or error}; "
            f"set {WHERE} to another copy"
        ) from error


@lru_cache(maxsize=8)
def _digest(file: Path, size: int, modified: int) -> str:
    """Of a file as it was when it had that size and time: it is hashed once, not once a run."""
    del size, modified
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_weights(backbone: nn.Module, init_cfg: Any) -> None:
    """Refuse what does not initialise a backbone, and pretrained weights that do not hold every tensor of it.

    Args:
        backbone: as built.
        init_cfg: of its config: None, a dict or several, with a path as ``checkpoint`` of ``Pretrained``.

    Raises:
        LTBenchError: it is something else, or the file holds no weights or not those of the backbone.
    """
    known = tuple(WEIGHT_INITIALIZERS.module_dict)
    for one in init_cfg if isinstance(init_cfg, list) else [] if init_cfg is None else [init_cfg]:
        if not isinstance(one, Mapping) or one.get("type") not in known:
            raise LTBenchError(
                "model.backbone.init_cfg is dict(type='Pretrained', checkpoint=...), none, or of type "
                f"{', '.join(known)}; got {one!r}"
            )
        if one["type"] == "Pretrained":
            _check_file(backbone, one)


def _check_file(backbone: nn.Module, init_cfg: Mapping[str, Any]) -> None:
    """Refuse a file that lacks a tensor of the backbone, or holds it in another shape."""
    file, held = init_cfg["checkpoint"], _tensors(Path(init_cfg["checkpoint"]))
    prefix = str(init_cfg.get("prefix") or "").removesuffix(".")
    prefix = f"{prefix}." if prefix else ""
    # A counter of batches is no weight; files from before it was kept lack it.
    wanted = {key: t for key, t in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = [
        key
        for key, tensor in wanted.items()
        if not isinstance(held.get(prefix + key), Tensor) or held[prefix + key].shape != tensor.shape
    ]
    if missing:
        hint = (
            "set model.backbone.init_cfg.prefix='backbone'"
            if not prefix and f"backbone.{missing[0]}" in held
            else f"set {WHERE} to weights of this backbone"
        )
        raise LTBenchError(
            f"{file} lacks {len(missing)} of the {len(wanted)} tensors of {type(backbone).__name__}, "
            f"the first is {prefix + missing[0]!r} of shape {tuple(wanted[missing[0]].shape)}; {hint}"
        )


def _tensors(file: Path) -> dict[str, Any]:
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise LTBenchError(
            f"{file} cannot be read as pretrained weights ({reason}); set {WHERE} to a checkpoint that holds "
            "tensors alone"
        ) from error
    held = held.get("state_dict", held) if isinstance(held, dict) else {}
    return {str(key): value for key, value in held.items()} if isinstance(held, dict) else {}
