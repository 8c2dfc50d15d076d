"""Small trees of real JPEG files in the layouts of ImageNet-LT, Places-LT and iNaturalist 2018."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850")
TRAIN = (120, 30, 5)  # one class of each shot group under every convention


def write_jpeg(file: Path, seed: int, size: int = 12) -> None:
    """One image of noise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, quality=90)


def _write(root: Path, lines: list[str], seed: int) -> str:
    for place, line in enumerate(lines):
        write_jpeg(root / line.rpartition(" ")[0], seed + place)
    return "".join(f"{line}\n" for line in lines)


def write_imagenet_lt(folder: Path, counts: tuple[int, ...] = TRAIN) -> Path:
    """A root with images and, beside them, the three lists; 2 validation and 3 test images a class."""
    root = folder / "imagenet"

    def lines(top: str, first: int, sizes: tuple[int, ...]) -> list[str]:
        return [
            f"{top}/{WNIDS[j]}/{WNIDS[j] if top == 'train' else 'ILSVRC2012_val'}_{first + i}.JPEG {j}"
            for j, size in enumerate(sizes)
            for i in range(size)
        ]

    each = len(counts)
    texts = {
        "train": _write(root, lines("train", 0, counts), 0),
        "val": _write(root, lines("train", 5000, (2,) * each), 5000),
        "test": _write(root, lines("val", 0, (3,) * each), 9000),
    }
    for part, text in texts.items():
        (root / f"ImageNet_LT_{part}.txt").write_text(text)
    return root


def write_inaturalist(folder: Path, counts: tuple[int, ...] = (9, 4, 2)) -> Path:
    """A root with images, the two lists, and the official JSON that they are made of."""
    root = folder / "inat"
    for part, year, sizes in (("train", "train2018", counts), ("val", "val2018", (2,) * len(counts))):
        labels = [j for j, size in enumerate(sizes) for _ in range(size)]
        order = np.random.default_rng(len(labels)).permutation(len(labels))
        names = [f"train_val2018/Aves/{labels[k]}/{part}{k:03d}.jpg" for k in order]
        lines = [f"{name} {labels[k]}" for name, k in zip(names, order, strict=True)]
        (root / f"iNaturalist18_{part}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"iNaturalist18_{part}.txt").write_text(_write(root, lines, 100 * len(labels)))
        ids = [1000 + place for place in range(len(names))]
        held = {
            "images": [{"id": i, "file_name": n} for i, n in zip(ids, names, strict=True)],
            # The order of the annotations is not that of the images.
            "annotations": [
                {"id": i, "image_id": i, "category_id": labels[k]}
                for i, k in reversed(list(zip(ids, order.tolist(), strict=True)))
            ],
            "categories": [{"id": j, "name": f"species {j}", "supercategory": "Aves"} for j in range(3)],
        }
        (root / f"{year}.json").write_text(json.dumps(held))
    return root
