"""Shards: what is written is read, bit for bit, and anything else is refused in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lt_bench.errors import LTBenchError
from lt_bench.snapshots.snapshot import Snapshot, make_snapshot
from lt_bench.snapshots.store import SnapshotStore

LABELS = torch.tensor([2, 0, 1, 2, 2, 0, 1, 2])
COUNTS = torch.tensor([2, 2, 4])


def snapshot(epoch: int, dtype=torch.float32) -> Snapshot:
    generator = torch.Generator().manual_seed(epoch)
    return make_snapshot(epoch, torch.randn(8, 3, generator=generator).to(dtype), COUNTS)


def store(folder: Path, **changed) -> SnapshotStore:
    arguments = {"labels": LABELS, "num_classes": 3, "identity": "abc", **changed}
    return SnapshotStore(folder, **arguments)


def refusal(action) -> str:
    with pytest.raises(LTBenchError) as caught:
        action()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float, torch.double])
def test_round_trip_keeps_every_bit(dtype, tmp_path: Path) -> None:
    written = snapshot(4, dtype)
    path = store(tmp_path / "new" / "folder").write(written)
    assert path.name == "epoch_0004.safetensors"
    read = store(tmp_path / "new" / "folder").read(4)
    assert read.epoch == 4 and torch.equal(read.counts, COUNTS)
    for name in ("features", "mean", "std"):
        before, after = getattr(written, name), getattr(read, name)
        assert before.dtype == after.dtype
        assert torch.equal(before.view(torch.uint8), after.view(torch.uint8))


def test_epochs_keep_and_truncate(tmp_path: Path) -> None:
    all_of_them, last_two = store(tmp_path / "all"), store(tmp_path / "two", keep=2)
    assert all_of_them.epochs() == []
    for epoch in range(1, 12):
        for each in (all_of_them, last_two):
            each.write(snapshot(epoch))
    assert all_of_them.epochs() == list(range(1, 12))
    assert last_two.epochs() == [10, 11]
    all_of_them.truncate_after(9)
    assert all_of_them.epochs() == list(range(1, 10))
    all_of_them.truncate_after(20)
    assert all_of_them.epochs() == list(range(1, 10))
    last_two.truncate_after(0)
    assert os.listdir(last_two.folder) == []


def test_what_is_not_a_shard_is_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "epoch_1.safetensors", ".epoch_0003.safetensors.x1"):
        (tmp_path / name).write_text("mine")
    keeper = store(tmp_path, keep=1)
    keeper.write(snapshot(5))
    keeper.truncate_after(0)
    assert keeper.epochs() == []
    assert len(os.listdir(tmp_path)) == 3


def test_rewriting_an_epoch_replaces_it(tmp_path: Path) -> None:
    keeper = store(tmp_path)
    keeper.write(snapshot(1))
    other = make_snapshot(1, torch.ones(8, 3), COUNTS)
    keeper.write(other)
    assert torch.equal(keeper.read(1).features, other.features)


def test_a_write_that_fails_leaves_the_old_shard(tmp_path: Path, monkeypatch) -> None:
    keeper = store(tmp_path)
    keeper.write(snapshot(1))

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        said = refusal(lambda: keeper.write(make_snapshot(1, torch.ones(8, 3), COUNTS)))
    assert "No space left" in said and "free space" in said
    assert os.listdir(tmp_path) == ["epoch_0001.safetensors"]
    assert torch.equal(keeper.read(1).features, snapshot(1).features)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refusal(lambda: store(tmp_path / "file").write(snapshot(1)))


def test_missing(tmp_path: Path) -> None:
    keeper = store(tmp_path)
    assert "epoch_0002.safetensors is missing (the store has no shard)" in refusal(lambda: keeper.read(2))
    keeper.write(snapshot(1))
    said = refusal(lambda: keeper.read(2))
    assert "has epochs 1 to 1" in said and "train stage 1 again" in said


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, -1])
def test_truncated_anywhere(length: int, tmp_path: Path) -> None:
    path = store(tmp_path).write(snapshot(1))
    content = path.read_bytes()
    path.write_bytes(content[:length])
    said = refusal(lambda: store(tmp_path).read(1))
    assert str(path) in said and "truncated or damaged: delete it" in said


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = store(tmp_path).write(snapshot(1))
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x21
        path.write_bytes(bytes(damaged))
        try:
            read = store(tmp_path).read(1)
        except LTBenchError as error:
            assert str(path) in str(error)
        else:
            # Spaces that pad the header may change; the snapshot may not.
            assert torch.equal(read.features, snapshot(1).features)
            assert content[position : position + 1] == b" "


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"identity": "xyz"}, "belongs elsewhere: expected identity 'xyz', got 'abc'"),
        ({"labels": LABELS.flip(0)}, "belongs elsewhere: expected labels"),
    ],
)
def test_a_shard_of_another_run_or_data_set(changed, sentence, tmp_path: Path) -> None:
    store(tmp_path).write(snapshot(1))
    assert sentence in refusal(lambda: store(tmp_path, **changed).read(1))


def test_a_renamed_shard(tmp_path: Path) -> None:
    keeper = store(tmp_path)
    keeper.write(snapshot(1)).rename(keeper.path(2))
    assert "expected epoch '2', got '1'" in refusal(lambda: keeper.read(2))


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    path = store(tmp_path).path(1)
    save_file({"weight": torch.zeros(2)}, path)
    assert "is not a snapshot shard" in refusal(lambda: store(tmp_path).read(1))
    path.write_text("not safetensors at all")
    assert "cannot be read as a snapshot shard" in refusal(lambda: store(tmp_path).read(1))


def test_content_that_the_header_does_not_describe(tmp_path: Path) -> None:
    keeper = store(tmp_path)
    path = keeper.write(snapshot(1))
    tensors = load_file(path)
    header = keeper._header(1) | {"sha256": "0" * 64}
    save_file(tensors, path, header)
    assert "its content is not what was written" in refusal(lambda: keeper.read(1))
    save_file({**tensors, "features": tensors["features"][:5]}, path, header)
    assert "its content is not what was written" in refusal(lambda: keeper.read(1))
    del tensors["std"]
    save_file(tensors, path, header)
    assert "is not a snapshot shard" in refusal(lambda: keeper.read(1))


def test_a_snapshot_of_another_data_set_is_not_written(tmp_path: Path) -> None:
    other = make_snapshot(1, torch.zeros(8, 3), torch.tensor([3, 1, 4]))
    assert "other class counts" in refusal(lambda: store(tmp_path).write(other))
    assert store(tmp_path).epochs() == []


@pytest.mark.parametrize("keep", [0, -1, "some", True, 1.5, None])
def test_bad_keep(keep, tmp_path: Path) -> None:
    assert "keeps 'all' or a number" in refusal(lambda: store(tmp_path, keep=keep))
