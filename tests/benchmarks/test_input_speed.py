"""Decoding and augmentation from JPEG files: lt_bench's loader against a plain torchvision DataLoader.

Generated JPEGs of ImageNet's usual size (500 x 375, quality 90) and of iNaturalist's largest (800 x 600),
noise at several scales. Three ways of the same augmentation (random resized crop to 224, flip, colour jitter,
normalisation), run in turn, round after round:

``plain``    a Dataset of paths over PIL and torchvision's v1 transforms, as the examples for ImageFolder have
             it: all on the CPU, image by image
``crop``     FileLoader with v2's RandomResizedCrop; what follows is done for the batch, on the device
``decode``   the same with ``decode_random_resized_crop``

``ratio`` is images a second of ``decode`` over those of ``plain``. ``a_core_*`` is images a second of
processor time in this process, without workers; of ``crop`` and ``decode`` without flip and jitter, which a
GPU does (``with_batch_transforms`` has them on the CPU). ``workers_*`` is the same by the wall clock with one
worker a core. On a machine that does other work, processor time is the steadier. ``cores_for_gpu_*`` divides
a GPU's images a second, an *estimate* that is given below and was not measured here, by ``a_core_*``. No time
is asserted.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1

from lt_bench.data.decoding import processors
from lt_bench.data.file_loader import FileLoader
from lt_bench.data.images import ImageFiles
from lt_bench.data.samplers import build_sampler

FULL = os.environ.get("LT_BENCH_FULL") == "1"
IMAGES, BATCH = (2048, 128) if FULL else (96, 32)
# An estimate: ResNet-50 (4.1 GMAC an image) is reported to train at about 2,500 images a second on an A100 in
# mixed precision; ResNet-10 has 0.89 GMAC.
GPU_IMAGES_A_SECOND = 11_000
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
BEHIND = [
    dict(type="batch_random_flip"),
    dict(type="batch_color_jitter", brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type="batch_normalize", mean=MEAN, std=STD),
]
# The least that a batch needs to be one.
ONLY_NORMALIZE = BEHIND[-1:]
CROPS = {
    "crop": dict(type="RandomResizedCrop", size=224),
    "decode": dict(type="decode_random_resized_crop", size=224),
}


def photograph(width: int, height: int, seed: int) -> bytes:
    """A JPEG of noise at scales from a quarter of the image to a few pixels."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0)
    for scale in (4, 8, 16, 32, 64, 128, 256):
        rough = random.normal(size=(3, scale * 3 // 4, scale)).astype(np.float32)
        smooth = [
            Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC) for channel in rough
        ]
        pixels += np.stack([np.asarray(channel) for channel in smooth], -1) * (60 / scale**0.35)
    held = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(held, "JPEG", quality=90)
    return held.getvalue()


class Plain(Dataset):
    """What torchvision's ImageFolder does with a path."""

    def __init__(self, files: ImageFiles) -> None:
        self.files = files
        self.transform = v1.Compose(
            [
                v1.RandomResizedCrop(224),
                v1.RandomHorizontalFlip(),
                v1.ColorJitter(0.4, 0.4, 0.4),
                v1.ToTensor(),
                v1.Normalize([m / 255 for m in MEAN], [s / 255 for s in STD]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files.root / self.files.paths[position]) as opened:
            image = opened.convert("RGB")
        return self.transform(image), int(self.files.labels[position])


def loaders(files: ImageFiles, workers: int, behind: list[dict]) -> dict[str, Iterable]:
    sampler = build_sampler(
        dict(type="instance"),
        files.labels,
        num_classes=2,
        batch_size=BATCH,
        seed=0,
        epochs=1,
        rank=0,
        world=1,
    )
    found: dict[str, Iterable] = {
        "plain": DataLoader(
            Plain(files), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
    }
    for name, crop in CROPS.items():
        found[name] = FileLoader(
            files, sampler=sampler, transforms=[crop, *behind], device="cpu", seed=0, workers=workers
        )
    return found


def images_a_second(loader: Iterable, clock) -> float:
    """Of one epoch."""
    start = clock()
    seen = sum(len(batch[0]) for batch in loader)
    return seen / (clock() - start)


@pytest.mark.benchmark_suite
@pytest.mark.parametrize(("width", "height"), [(500, 375), (800, 600)], ids=["imagenet", "inaturalist"])
def test_input_against_a_plain_loader(benchmark, tmp_path: Path, width: int, height: int) -> None:
    torch.set_num_threads(1)
    distinct = [photograph(width, height, seed) for seed in range(24)]
    for place in range(IMAGES):
        (tmp_path / f"{place}.jpg").write_bytes(distinct[place % len(distinct)])
    files = ImageFiles(tuple(f"{place}.jpg" for place in range(IMAGES)), torch.arange(IMAGES) % 2, tmp_path)
    cores = processors()
    # On a GPU the batch transforms are the device's; a core's share of the work ends with the crop.
    alone, whole = loaders(files, 0, ONLY_NORMALIZE), loaders(files, 0, BEHIND)
    together = loaders(files, cores, ONLY_NORMALIZE)
    rates: dict[str, list[float]] = {}

    def one_round() -> None:
        for name in alone:
            for kind, group, clock in (
                ("a_core", alone, time.process_time),
                ("a_core_with_batch_transforms", whole, time.process_time),
                ("workers", together, time.perf_counter),
            ):
                rates.setdefault(f"{kind}_{name}", []).append(images_a_second(group[name], clock))

    benchmark.pedantic(one_round, rounds=3, warmup_rounds=1)
    found = {key: statistics.median(each[1:]) for key, each in rates.items()}
    benchmark.extra_info.update(
        ratio=found["a_core_decode"] / found["a_core_plain"],
        ratio_crop=found["a_core_crop"] / found["a_core_plain"],
        ratio_with_batch_transforms=found["a_core_with_batch_transforms_decode"] / found["a_core_plain"],
        ratio_workers=found["workers_decode"] / found["workers_plain"],
        **found,
        gpu_images_a_second_estimated=GPU_IMAGES_A_SECOND,
        cores_for_gpu_plain=GPU_IMAGES_A_SECOND / found["a_core_plain"],
        cores_for_gpu_decode=GPU_IMAGES_A_SECOND / found["a_core_decode"],
        bytes_a_file=statistics.mean(map(len, distinct)),
        images=IMAGES,
        cores=cores,
    )
