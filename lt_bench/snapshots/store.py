"""Snapshots on disk: one safetensors shard an epoch, for replay and ablations.

A shard is written whole or not at all, in the captured dtype, so a replay sees the bits that
training saw. Its header says what it belongs to; reading checks that and a digest of the content.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lt_bench.arguments import is_whole
from lt_bench.errors import LTBenchError
from lt_bench.files import replacing
from lt_bench.snapshots.snapshot import Snapshot, labels_digest, training_counts

_FORMAT = "lt-bench snapshot 1"
_SHARD = re.compile(r"epoch_(\d{4,})\.safetensors")
_TENSORS = ("features", "mean", "std")


class SnapshotStore:
    """A folder of shards ``epoch_0001.safetensors``, ... of one stage 1.

    Under ``torch.distributed`` one rank writes.

    Args:
        folder: where the shards lie; made at the first write.
        labels: (N,) integers, the training labels in the order of the data set.
        num_classes: C.
        identity: what stage 1 is; shards of another identity are refused.
        keep: ``"all"``, or how many of the newest shards stay.

    Raises:
        LTBenchError: ``keep`` is neither, a label out of range, or a class without a sample.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        labels: Tensor,
        num_classes: int,
        identity: str,
        keep: Literal["all"] | int = "all",
    ) -> None:
        if keep != "all" and not is_whole(keep, 1):
            raise LTBenchError(
                f"a snapshot store keeps 'all' or a number of epochs of at least 1, got {keep!r}; "
                "choose one of them"
            )
        self.folder = Path(folder)
        self.identity = identity
        self.keep = keep
        self.counts = training_counts(labels, num_classes)
        self._labels = labels_digest(labels)

    def path(self, epoch: int) -> Path:
        """The shard of an epoch."""
        return self.folder / f"epoch_{epoch:04d}.safetensors"

    def epochs(self) -> list[int]:
        """The epochs that have a shard, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_SHARD.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def write(self, snapshot: Snapshot) -> Path:
        """Write a shard, replacing one of the same epoch; then drop what ``keep`` does not ask for.

        Returns:
            The shard's path.

        Raises:
            LTBenchError: the snapshot is of another data set, or the folder cannot be written.
        """
        if not torch.equal(snapshot.counts, self.counts):
            raise LTBenchError(
                f"the snapshot of epoch {snapshot.epoch} has other class counts than the labels of "
                f"the store {self.folder}; give each training set its own folder"
            )
        tensors = {name: getattr(snapshot, name).detach().to("cpu").contiguous() for name in _TENSORS}
        header = self._header(snapshot.epoch) | {"sha256": _content_digest(tensors)}
        path = self.path(snapshot.epoch)
        with replacing(path) as temporary:
            try:
                save_file(tensors, temporary, header)
            except SafetensorError as error:
                # A full disk comes as this too, and not as an OSError.
                raise LTBenchError(
                    f"cannot write {path}: {error}; free space or choose a folder you may write to"
                ) from error
        if self.keep != "all":
            for epoch in self.epochs():
                if epoch <= snapshot.epoch - int(self.keep):
                    self._remove(epoch)
        return path

    def read(self, epoch: int, device: torch.device | str = "cpu") -> Snapshot:
        """The snapshot of an epoch, bit for bit as it was written.

        Raises:
            LTBenchError: the shard is missing, truncated, damaged, or of another run or data set.
        """
        path = self.path(epoch)
        if not path.is_file():
            held = self.epochs()
            have = f"epochs {held[0]} to {held[-1]}" if held else "no shard"
            raise LTBenchError(
                f"{path} is missing (the store has {have}); train stage 1 again with "
                "snapshots.keep='all', or ask for an epoch that is there"
            )
        try:
            with safe_open(path, framework="pt", device="cpu") as shard:
                header = shard.metadata() or {}
                names = set(shard.keys())
                complete = names == set(_TENSORS)
                tensors = {name: shard.get_tensor(name) for name in _TENSORS} if complete else {}
        except OSError as error:
            raise LTBenchError(f"cannot read {path}: {error.strerror or error}; make it readable") from error
        except (SafetensorError, ValueError) as error:
            raise LTBenchError(
                f"{path} cannot be read as a snapshot shard ({error}); it is truncated or damaged: "
                "delete it and train stage 1 again"
            ) from error
        self._check(path, epoch, header, tensors)
        on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
        return Snapshot(epoch=epoch, counts=self.counts, **on_device)

    def truncate_after(self, epoch: int) -> None:
        """Remove the shards of later epochs, as a resume from the end of ``epoch`` must.

        Raises:
            LTBenchError: a shard cannot be removed.
        """
        for held in self.epochs():
            if held > epoch:
                self._remove(held)

    def _header(self, epoch: int) -> dict[str, str]:
        return {
            "format": _FORMAT,
            "identity": self.identity,
            "epoch": str(epoch),
            "labels": self._labels,
        }

    def _check(self, path: Path, epoch: int, header: dict[str, str], tensors: dict[str, Tensor]) -> None:
        if header.get("format") != _FORMAT or not tensors:
            raise LTBenchError(
                f"{path} is not a snapshot shard: expected format {_FORMAT!r}, got "
                f"{header.get('format')!r}; move it out of the store's folder"
            )
        for name, expected in self._header(epoch).items():
            if header.get(name) != expected:
                raise LTBenchError(
                    f"{path} belongs elsewhere: expected {name} {expected!r}, got "
                    f"{header.get(name)!r}; give each stage 1 its own folder, or delete the shard "
                    "and train stage 1 again"
                )
        features = tensors["features"]
        rows = (int(self.counts.sum()), self.counts.numel())
        shapes_agree = features.dim() == 2 and features.shape[0] == rows[0]
        moments = (rows[1], features.shape[-1])
        shapes_agree &= tensors["mean"].shape == moments and tensors["std"].shape == moments
        if not shapes_agree or header.get("sha256") != _content_digest(tensors):
            raise LTBenchError(
                f"{path} is damaged: its content is not what was written; delete it and train stage 1 again"
            )

    def _remove(self, epoch: int) -> None:
        try:
            self.path(epoch).unlink(missing_ok=True)
        except OSError as error:
            raise LTBenchError(
                f"cannot remove {self.path(epoch)}: {error.strerror or error}; make the folder writable"
            ) from error


def _content_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for name in _TENSORS:
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()
