"""Loaders over files: workers, torchvision's transforms, purity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from lt_bench.data.batch import Batch
from lt_bench.data.file_loader import FileLoader, SequentialFileLoader, split_pipeline
from lt_bench.data.images import ImageFiles
from lt_bench.data.loader import build_eval_loader, build_loader
from lt_bench.data.samplers import build_sampler
from lt_bench.errors import LTBenchError
from lt_bench.registry import TRANSFORMS

NORMALIZE = dict(type="batch_normalize", mean=[0.0] * 3, std=[1.0] * 3)
AUGMENT = [
    dict(type="RandomResizedCrop", size=5, scale=(0.3, 1.0)),
    dict(type="RandomApply", transforms=[dict(type="ColorJitter", brightness=0.5)], p=0.8),
    dict(type="batch_random_flip"),
    NORMALIZE,
]


@pytest.fixture
def files(tmp_path: Path, images: Callable[..., NDArray[np.uint8]]) -> ImageFiles:
    """Twenty PNG files of 8 x 8, three classes."""
    for i, pixels in enumerate(images(20, 8)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    paths = tuple(f"{i}.png" for i in range(20))
    return ImageFiles(paths, torch.arange(20) % 3, tmp_path)


def _loader(
    files: ImageFiles,
    *,
    rank: int = 0,
    world: int = 1,
    seed: int = 0,
    sampler: str = "instance",
    **own: Any,
) -> FileLoader:
    built = build_sampler(
        dict(type=sampler),
        files.labels,
        num_classes=3,
        batch_size=6,
        seed=seed,
        epochs=4,
        rank=rank,
        world=world,
    )
    options: dict[str, Any] = dict(transforms=AUGMENT, device="cpu", seed=seed) | own
    loader = build_loader(files, sampler=built, **options)
    assert isinstance(loader, FileLoader)
    return loader


def _images(batches: list[Batch]) -> Tensor:
    return torch.cat([batch.images for batch in batches])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_files_at_their_indices(
    files: ImageFiles, images: Callable[..., NDArray[np.uint8]], workers: int
) -> None:
    expected = torch.from_numpy(images(20, 8)).permute(0, 3, 1, 2).float()
    loader = _loader(files, transforms=[NORMALIZE], workers=workers, channels_last=True)
    batches = list(loader)
    assert len(batches) == len(loader) == 4
    for batch in batches:
        assert torch.equal(batch.images, expected[batch.indices])
        assert torch.equal(batch.labels, files.labels[batch.indices])
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
    shown = torch.cat([batch.indices for batch in batches])
    assert torch.equal(shown, loader.sampler.epoch_indices(0))
    assert loader.dataset is files


def test_an_epoch_is_pure_and_does_not_depend_on_workers(files: ImageFiles) -> None:
    here, workers = _loader(files), _loader(files, workers=2)
    epochs = []
    for epoch in range(3):
        here.set_epoch(epoch)
        epochs.append(_images(list(here)))
    for epoch in (2, 0):  # the workers live on from epoch to epoch
        workers.set_epoch(epoch)
        torch.manual_seed(50 + epoch)
        assert torch.equal(_images(list(workers)), epochs[epoch])
    assert not torch.equal(epochs[0], epochs[1])
    other = _loader(files, seed=1)
    assert not torch.equal(_images(list(other)), epochs[0])


def test_single_image_transforms_do_not_depend_on_the_ranks(files: ImageFiles) -> None:
    own = [*AUGMENT[:2], NORMALIZE]
    (whole,) = (list(_loader(files, transforms=own)),)
    ranks = [list(_loader(files, transforms=own, rank=r, world=2)) for r in range(2)]
    for k, batch in enumerate(whole):
        for r in range(2):
            assert torch.equal(ranks[r][k].images, batch.images[r::2])
            assert torch.equal(ranks[r][k].indices, batch.indices[r::2])


def test_an_image_drawn_twice_is_augmented_twice(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "only.png")
    files = ImageFiles(("only.png",) * 12, torch.arange(12) % 3, tmp_path)
    loader = _loader(files, transforms=[dict(type="RandomCrop", size=8), NORMALIZE])
    assert len(_images(list(loader)).unique(dim=0)) > 8


def test_decoding_here_leaves_the_global_generators_alone(files: ImageFiles) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(build_eval_loader(files, transforms=[NORMALIZE], batch_size=8, device="cpu"))
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_shows_all_in_order(files: ImageFiles, workers: int) -> None:
    loader = build_eval_loader(
        files,
        transforms=[dict(type="Resize", size=6), dict(type="CenterCrop", size=4), NORMALIZE],
        batch_size=8,
        device="cpu",
        workers=workers,
    )
    assert isinstance(loader, SequentialFileLoader)
    first, again = list(loader), list(loader)
    assert [len(batch.labels) for batch in first] == [8, 8, 4]
    assert len(loader) == 3
    assert torch.equal(torch.cat([batch.indices for batch in first]), torch.arange(20))
    assert _images(first).shape == (20, 3, 4, 4)
    assert torch.equal(_images(first), _images(again))
    share = build_eval_loader(
        files, transforms=[NORMALIZE], batch_size=8, device="cpu", places=torch.tensor([4, 9])
    )
    assert torch.cat([batch.indices for batch in share]).tolist() == [4, 9]


def test_a_pipeline_may_normalise_in_the_workers(files: ImageFiles) -> None:
    own = [dict(type="ToImage"), dict(type="ToDtype", dtype=torch.float32, scale=True)]
    (batch, *_) = _loader(files, transforms=own)
    assert batch.images.dtype == torch.float32
    assert float(batch.images.max()) <= 1
    assert type(batch.images) is Tensor


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("damage", "told"), [("truncate", "decode image"), ("replace", "decode image"), ("remove", "read image")]
)
def test_an_image_that_cannot_be_used_is_named(
    files: ImageFiles, damage: str, told: str, workers: int
) -> None:
    file = files.root / "7.png"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:80])
    elif damage == "replace":
        file.write_text("no image")
    else:
        file.unlink()
    with pytest.raises(LTBenchError) as caught:
        list(_loader(files, workers=workers))
    assert str(caught.value).startswith(f"cannot {told} {file}")
    assert ("undecodable" in str(caught.value)) == (damage != "remove"), "skipping helps against the one only"
    assert "\n" not in str(caught.value)


def test_a_root_that_vanishes_is_told_and_can_come_back(files: ImageFiles, tmp_path: Path) -> None:
    """A file server that goes away in the middle of an epoch."""
    loader = _loader(files)
    whole = _images(list(loader))
    batches = iter(loader)
    next(batches)
    away = files.root.rename(tmp_path.parent / f"{tmp_path.name}-away")
    with pytest.raises(LTBenchError, match=r"cannot read image .*: No such file.*--resume"):
        list(batches)
    away.rename(files.root)
    assert torch.equal(_images(list(loader)), whole)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "transform", [{"type": "RandomCrop", "size": 9}, {"type": "Normalize", "mean": [0.5], "std": [0.5]}]
)
def test_a_transform_that_does_not_take_an_image_is_told(
    files: ImageFiles, transform: dict[str, Any], workers: int
) -> None:
    with pytest.raises(LTBenchError) as caught:
        list(_loader(files, transforms=[transform, NORMALIZE], workers=workers))
    assert str(caught.value).startswith(f"transform {transform['type']} does not take image {files.root}")
    assert "\n" not in str(caught.value)


def test_a_transform_of_one_s_own_keeps_its_traceback(files: ImageFiles) -> None:
    @TRANSFORMS.register_module("broken_transform_of_a_test")
    def broken() -> Any:
        return lambda image: image["missing"]

    with pytest.raises(TypeError, match="not subscriptable"):
        list(_loader(files, transforms=[{"type": "broken_transform_of_a_test"}, NORMALIZE]))


def test_images_of_several_sizes_are_told(files: ImageFiles) -> None:
    Image.new("RGB", (4, 4)).save(files.root / "3.png")
    with pytest.raises(LTBenchError, match="differ in shape, .3, 4, 4. and .3, 8, 8., after"):
        list(_loader(files, transforms=[NORMALIZE]))


def test_a_registered_transform_of_single_images(files: ImageFiles) -> None:
    name = "invert_of_a_test"

    class Invert:
        """Of one image."""

        def __call__(self, image: Image.Image) -> Image.Image:
            return Image.eval(image, lambda value: 255 - value)

    TRANSFORMS.register_module(name=name, module=Invert)
    try:
        batches = list(_loader(files, transforms=[dict(type=name), NORMALIZE]))
        plain = list(_loader(files, transforms=[NORMALIZE]))
    finally:
        TRANSFORMS._module_dict.pop(name)
    assert torch.equal(_images(batches), 255 - _images(plain))


def test_the_pipeline_is_cut_where_batches_begin() -> None:
    single, batch = split_pipeline(AUGMENT)
    assert [type(t) for t in single] == [v2.RandomResizedCrop, v2.RandomApply]
    assert [type(t).__name__ for t in batch] == ["BatchRandomFlip", "BatchNormalize"]


@pytest.mark.parametrize(
    ("transforms", "told"),
    [
        ([dict(type="RandomResizedCrob", size=4)], "unknown transform 'RandomResizedCrob'"),
        ([dict(type="CenterCrop", sise=4)], "transform 'CenterCrop': .*sise"),
        ([dict(type="CenterCrop", size=(1, 2, 3))], "transform 'CenterCrop': "),
        ([NORMALIZE, dict(type="CenterCrop", size=4)], "put the batch_. transforms last"),
        (["CenterCrop"], "a dict with a 'type'"),
        ([dict(size=4)], "a dict with a 'type'"),
        ([dict(type="functional")], "unknown transform 'functional'"),
    ],
)
def test_refuses_a_pipeline(transforms: list[Any], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        split_pipeline(transforms)


def test_refuses(files: ImageFiles) -> None:
    with pytest.raises(LTBenchError, match="leave the images as torch.uint8"):
        list(_loader(files, transforms=[]))
    with pytest.raises(LTBenchError, match="workers must be 0 or more"):
        _loader(files, workers=-1)
    with pytest.raises(LTBenchError, match="random"):
        build_eval_loader(files, transforms=AUGMENT, batch_size=4, device="cpu")
    crop = {"type": "RandomCrop", "size": 4}
    with pytest.raises(LTBenchError, match="an evaluation draw random numbers"):
        list(build_eval_loader(files, transforms=[crop, NORMALIZE], batch_size=4, device="cpu"))
    with pytest.raises(LTBenchError, match="batch_size must be 1 or more"):
        build_eval_loader(files, transforms=[NORMALIZE], batch_size=0, device="cpu")
    fewer = ImageFiles(files.paths[:5], files.labels[:5], files.root)
    with pytest.raises(LTBenchError, match="made for 20 images, the split has 5"):
        FileLoader(fewer, sampler=_loader(files).sampler, transforms=AUGMENT, device="cpu", seed=0)


def test_a_worker_outlives_sigterm_of_others_and_ends_by_its_parents(files: ImageFiles) -> None:
    import os
    import signal
    import subprocess

    loader = _loader(files, workers=1)
    batches = iter(loader)
    next(batches)
    (worker,) = loader._batches._iterator._workers
    # From a process that is not the parent.
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert len(list(batches)) == len(loader) - 1
    assert worker.is_alive()
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(10)
    assert not worker.is_alive()
