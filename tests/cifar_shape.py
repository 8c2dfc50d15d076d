"""Random images in the shape of CIFAR-100-LT, for what times the harness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lt_bench.config import Experiment, load_experiment
from lt_bench.data.profile import exponential_counts


def cifar_shape(folder: Path, share: int) -> dict[str, Any]:
    """The dataset's config: 100 classes, 32 x 32, counts of imbalance factor 100.

    Args:
        folder: where the images are written.
        share: a training class has 1/share of CIFAR-100-LT's images, but one at least; so do validation (20)
            and test (100).
    """
    path = folder / "images.npz"
    draw = np.random.default_rng(0)
    counts = {
        "train": [max(1, n // share) for n in exponential_counts(500, 100, 100)],
        "val": [max(1, 20 // share)] * 100,
        "test": [max(1, 100 // share)] * 100,
    }
    arrays = {}
    for split, sizes in counts.items():
        arrays[f"{split}_images"] = draw.integers(0, 256, (sum(sizes), 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.repeat(np.arange(100), sizes)
    np.savez(path, **arrays)
    return {"type": "array_lt", "path": str(path)}


def cifar_experiment(name: str, dataset: dict[str, Any], **options: Any) -> Experiment:
    """A config of CIFAR-100-LT on such images, with other values of dotted keys."""
    found = load_experiment(f"cifar100_lt/{name}", {k.replace("__", "."): v for k, v in options.items()})
    found.config["dataset"] = dict(dataset)
    return found
