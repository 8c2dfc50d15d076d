"""A tree of real JPEG files below the paths of ImageNet-LT, Places-LT or iNaturalist 2018, with its lists.

The files lie where the datasets' own lie: validation images of ImageNet-LT and Places-LT among the training
images, test images under ``val/``, those of iNaturalist 2018 in ``train_val2018/<supercategory>/<category>``.

    python -m tests.image_tree FOLDER path/to/cifar100

cuts a long-tailed tree with the layout of ImageNet-LT from CIFAR-100's parquet files.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lt_bench.data.sources.parquet import find_parquet

LISTS = {
    "imagenet_lt": {
        "train": "ImageNet_LT_train.txt",
        "val": "ImageNet_LT_val.txt",
        "test": "ImageNet_LT_test.txt",
    },
    "places_lt": {"train": "Places_LT_train.txt", "val": "Places_LT_val.txt", "test": "Places_LT_test.txt"},
    "inaturalist2018": {"train": "iNaturalist18_train.txt", "test": "iNaturalist18_val.txt"},
}
# 24 classes, many-, medium- and few-shot ones under every convention; as rare as ImageNet-LT's rarest.
CIFAR_COUNTS = tuple(int(250 * 50 ** (-j / 23)) for j in range(24))
# Few images, and yet classes of all three groups.
COUNTS = (101, 30, 21, 6, 3, 2)


@dataclass(frozen=True)
class ImageTree:
    """What was written.

    Attributes:
        root: the image root.
        lists: the folder of the list files.
    """

    root: Path
    lists: Path

    @property
    def options(self) -> dict[str, object]:
        """Overrides that make a config of the dataset read this tree."""
        return {
            "dataset.root": str(self.root),
            "dataset.lists": str(self.lists),
            "dataset.require_public": False,
        }


def write_image_tree(
    folder: Path, dataset: str, splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]
) -> ImageTree:
    """Write the images of each split and the lists that name them.

    Args:
        folder: a new folder; images go below ``images``, lists below ``lists``.
        dataset: a key of :data:`LISTS`.
        splits: pixels (n, H, W, 3) and labels (n,) by split; those that the dataset lacks are left out.
    """
    tree = ImageTree(folder / "images", folder / "lists")
    tree.lists.mkdir(parents=True)
    for split, file in LISTS[dataset].items():
        pixels, labels = splits[split]
        lines = []
        for place, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
            path = _path(dataset, split, label, place)
            (tree.root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tree.root / path, format="JPEG", quality=95)
            lines.append(f"{path} {label}\n")
        (tree.lists / file).write_text("".join(lines))
    return tree


def _path(dataset: str, split: str, label: int, place: int) -> str:
    if dataset == "imagenet_lt":
        synset = f"n{1440764 + label:08d}"
        if split == "test":
            return f"val/{synset}/ILSVRC2012_val_{place + 1:08d}.JPEG"
        return f"train/{synset}/{synset}_{2 * place + (split == 'val')}.JPEG"
    if dataset == "places_lt":
        scene = f"scene_{label}"
        if split == "test":
            return f"val/{scene}/Places365_val_{place + 1:08d}.jpg"
        return f"train/{scene}/{2 * place + (split == 'val'):08d}.jpg"
    name = f"{place:031x}{'0' if split == 'train' else '1'}"
    return f"train_val2018/Plantae/{label}/{name}.jpg"


def cifar_splits(
    root: Path, counts: Sequence[int] = CIFAR_COUNTS, each: int = 20
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Real images: the first classes of CIFAR-100, long-tailed for training.

    Args:
        root: the folder of its parquet files.
        counts: n_j, at most 500 less ``each``.
        each: validation and test images of every class, of CIFAR-100's training and test images.
    """
    found = find_parquet(root)
    assert found is not None, f"no parquet files of CIFAR-100 in {root}"
    rows: dict[str, list[NDArray[np.int64]]] = {"train": [], "val": [], "test": []}
    for label, count in enumerate(counts):
        own = np.flatnonzero(found.train.labels == label)
        rows["train"].append(own[:count])
        rows["val"].append(own[len(own) - each :])
        rows["test"].append(np.flatnonzero(found.test.labels == label)[:each])
    splits = {}
    for split, parts in rows.items():
        source, taken = found.test if split == "test" else found.train, np.concatenate(parts)
        splits[split] = source.read(taken).permute(0, 2, 3, 1).numpy(), source.labels[taken]
    return splits


def coloured_splits(
    counts: Sequence[int] = COUNTS, *, size: int = 40, each: int = 2
) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Noise around a colour for each class, where no data are at hand.

    Args:
        counts: n_j.
        size: pixels a side; one more in height, since photographs are seldom square.
        each: validation and test images of every class.
    """
    random = np.random.default_rng(0)
    classes = np.arange(len(counts))
    colours = random.integers(0, 256, (len(counts), 1, 1, 3))
    splits = {}
    for split, repeats in {"train": counts, "val": each, "test": each}.items():
        labels = np.repeat(classes, repeats)
        noise = random.integers(-40, 41, (len(labels), size + 1, size, 3))
        splits[split] = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels
    return splits


def main() -> None:
    """Write a tree from CIFAR-100 and say how a config reads it."""
    parser = argparse.ArgumentParser(description="A long-tailed tree of real JPEG files from CIFAR-100.")
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("cifar100", type=Path, help="the folder of CIFAR-100's parquet files")
    arguments = parser.parse_args()
    tree = write_image_tree(arguments.folder, "imagenet_lt", cifar_splits(arguments.cifar100))
    print("--cfg-options", *(f"{key}={value}" for key, value in tree.options.items()))


if __name__ == "__main__":
    main()
