"""The loop that released long-tail codes train with, as the thing that the harness is compared with.

LDAM-DRW's ``cifar_train.py``, which most CIFAR-LT code started from: torchvision's transforms of one PIL
image at a time in the workers of a DataLoader, fp32, NCHW, SGD without foreach or fused, the loss read in
every step. ``workers`` are their 4, but not more than there are cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WORKERS = min(4, os.cpu_count() or 1)


class PILImages(Dataset):
    """Images in memory, one PIL image at a time, as torchvision's CIFAR classes give them.

    Args:
        images: (N, C, H, W) uint8, C = 3 or 1.
        labels: (N,) int64.
        transform: of one PIL image.
    """

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images = images.permute(0, 2, 3, 1).squeeze(-1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def transform(
    size: int, mean: Sequence[float], std: Sequence[float], *, padding: int = 0, flip: bool = False
) -> transforms.Compose:
    """RandomCrop with ``padding`` where it is above 0, RandomHorizontalFlip, ToTensor, Normalize.

    Args:
        size: pixels a side.
        mean: a number a channel, in units of 0 to 255.
        std: likewise.
        padding: pixels on each side.
        flip: whether half of the images are mirrored.
    """
    parts: list[Callable] = []
    if padding:
        parts.append(transforms.RandomCrop(size, padding=padding))
    if flip:
        parts.append(transforms.RandomHorizontalFlip())
    scaled = ([m / 255 for m in mean], [s / 255 for s in std])
    return transforms.Compose([*parts, transforms.ToTensor(), transforms.Normalize(*scaled)])


def loader(images: Dataset, batch_size: int, *, workers: int = WORKERS) -> DataLoader:
    """Batches in random order."""
    pin = torch.cuda.is_available()
    return DataLoader(images, batch_size=batch_size, shuffle=True, num_workers=workers, pin_memory=pin)


def sgd(model: nn.Module, **settings: float) -> torch.optim.SGD:
    """SGD, parameter by parameter."""
    return torch.optim.SGD(model.parameters(), **settings, foreach=False, fused=False)


def train_epoch(
    network: Callable[[Tensor], Tensor],
    batches: DataLoader,
    optimizer: torch.optim.SGD,
    device: torch.device | str,
) -> float:
    """One epoch of cross-entropy; ``network`` maps images (B, C, H, W) to logits (B, classes).

    Returns:
        The mean of the steps' losses.
    """
    total = 0.0
    for images, labels in batches:
        images = images.to(device, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        loss = F.cross_entropy(network(images), labels)
        total += loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return total / len(batches)
