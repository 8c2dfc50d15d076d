"""Splits refuse what is not images and labels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lt_bench.data.images import ImageFiles, ImageSet, check_labels
from lt_bench.errors import LTBenchError

PIXELS = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 1])


def test_holds_images_and_moves() -> None:
    held = ImageSet(PIXELS, LABELS)
    assert len(held) == 3
    assert held.to("cpu") is held
    assert held.to("meta").images.device.type == "meta"


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (PIXELS.float(), LABELS, "images must be uint8"),
        (PIXELS[0], LABELS, "images must be uint8"),
        (PIXELS, LABELS[:2], "3 images and 2 labels"),
        (PIXELS, LABELS.int(), "vector of int64"),
        (PIXELS, LABELS[:, None], "vector of int64"),
    ],
)
def test_image_set_refuses(images: torch.Tensor, labels: torch.Tensor, told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        ImageSet(images, labels)


def test_image_files_refuse_another_number_of_labels() -> None:
    assert len(ImageFiles(("a", "b", "c"), LABELS, Path())) == 3
    with pytest.raises(LTBenchError, match="2 images and 3 labels"):
        ImageFiles(("a", "b"), LABELS, Path())


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.tensor([0, 2, 5]), "label 5 at position 2 of it is out of range: expected 0 to 2"),
        (torch.tensor([0, -1]), "label -1 at position 1"),
        (torch.tensor([0.0]), "int64"),
        (torch.zeros(2, 2, dtype=torch.int64), "int64"),
    ],
)
def test_check_labels(labels: torch.Tensor, told: str) -> None:
    check_labels(torch.tensor([0, 1, 2]), 3, "it")
    with pytest.raises(LTBenchError, match=told):
        check_labels(labels, 3, "it")
