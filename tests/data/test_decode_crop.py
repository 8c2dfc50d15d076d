"""Decoding straight to a random crop, against torchvision's own RandomResizedCrop of the whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lt_bench.data.decode_crop import DecodeRandomResizedCrop
from lt_bench.data.file_loader import FileLoader
from lt_bench.data.images import ImageFiles
from lt_bench.data.samplers import build_sampler
from lt_bench.errors import LTBenchError
from lt_bench.seeding import derive_seed

CROP = dict(type="decode_random_resized_crop", size=32)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth in all channels, as photographs are."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def reference(path: Path, seed: int, size: int = 32) -> Tensor:
    torch.manual_seed(seed)
    with Image.open(path) as opened:
        return functional.pil_to_tensor(v2.RandomResizedCrop(size)(opened.convert("RGB")))


def close(one: Tensor, other: Tensor) -> tuple[float, int]:
    apart = (one.int() - other.int()).abs()
    return float(apart.float().mean()), int(apart.max())


@pytest.mark.parametrize(("width", "height"), [(500, 375), (64, 48), (90, 300), (20, 20), (33, 1)])
def test_the_crop_is_torchvisions(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.jpg"
    picture(width, height).save(path, quality=95)
    transform = DecodeRandomResizedCrop(32)
    for seed in range(12):
        torch.manual_seed(seed)
        got = transform.decode(path)
        assert got.shape == (3, 32, 32) and got.dtype == torch.uint8
        mean, most = close(got, reference(path, seed))
        assert mean < 1.5 and most <= 24, f"seed {seed}: {mean:.2f} levels in the mean, {most} at the most"


def test_at_its_own_size_it_differs_by_rounding(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture(60, 50).save(path, quality=95)
    transform = DecodeRandomResizedCrop(32)
    for seed in range(12):
        torch.manual_seed(seed)
        assert close(transform.decode(path), reference(path, seed))[1] <= 2


def test_the_fraction_leaves_no_crop_smaller_than_the_output() -> None:
    transform = DecodeRandomResizedCrop(224)
    sizes = [(223, 900), (447, 900), (448, 448), (895, 900), (896, 2000), (1792, 1792), (9000, 9000)]
    assert [transform.divisor(*size) for size in sizes] == [1, 1, 2, 2, 4, 8, 8]


@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
def test_a_large_image_is_decoded_at_that_fraction(tmp_path: Path, monkeypatch, divisor: int) -> None:
    path = tmp_path / "a.jpg"
    picture(32 * divisor + 5, 32 * divisor + 3).save(path, quality=95)
    decoded = []
    convert = Image.Image.convert

    def noted(self: Image.Image, *given: object) -> Image.Image:
        decoded.append(self.size)
        return convert(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "convert", noted)
    transform = DecodeRandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    torch.manual_seed(0)
    got = transform.decode(path)
    sides = (-(-(32 * divisor + 5) // divisor), -(-(32 * divisor + 3) // divisor))
    assert decoded == ([] if divisor == 1 else [sides])
    monkeypatch.undo()
    torch.manual_seed(0)
    whole = v2.RandomResizedCrop(32, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    expected = functional.pil_to_tensor(whole(Image.open(path).convert("RGB")))
    assert close(got, expected)[0] < 1.5


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("P", "png")])
def test_other_files_are_decoded_too(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    picture(150, 140).convert(mode).save(path)
    for seed in range(3):
        torch.manual_seed(seed)
        got = DecodeRandomResizedCrop(32).decode(path)
        mean, most = close(got, reference(path, seed))
        # A palette image is no smooth one: rounding is all that differs there, too.
        assert got.shape == (3, 32, 32) and mean < 1.5 and most <= 24


def _loader(root: Path, names: list[str], transforms: list[dict], **own: object) -> FileLoader:
    files = ImageFiles(tuple(names), torch.arange(len(names)) % 2, root)
    sampler = build_sampler(
        dict(type="instance"), files.labels, num_classes=2, batch_size=4, seed=0, epochs=2, rank=0, world=1
    )
    normalize = dict(type="batch_normalize", mean=[0.0] * 3, std=[1.0] * 3)
    return FileLoader(
        files, sampler=sampler, transforms=[*transforms, normalize], device="cpu", seed=0, **own
    )  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(8):
        picture(100 + i, 80, seed=i).save(tmp_path / f"{i}.jpg", quality=95)
    return tmp_path


def test_through_the_loader_it_is_the_plain_transforms_crop(root: Path) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    scaled, plain = (
        torch.cat([batch.images for batch in _loader(root, names, [transform])])
        for transform in (CROP, dict(type="RandomResizedCrop", size=32))
    )
    assert float((scaled - plain).abs().mean()) < 1.5
    in_workers = torch.cat([batch.images for batch in _loader(root, names, [CROP], workers=2)])
    assert torch.equal(scaled, in_workers)


def test_what_stands_behind_draws_what_it_draws_behind_the_plain_crop(root: Path) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    flip = dict(type="RandomHorizontalFlip")
    scaled, plain = (
        torch.cat([batch.images for batch in _loader(root, names, [transform, flip])])
        for transform in (CROP, dict(type="RandomResizedCrop", size=32))
    )
    assert float((scaled - plain).abs().mean()) < 1.5


def test_an_image_seeds_the_cpu_only_as_manual_seed_would(root: Path, monkeypatch) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    first = next(iter(_loader(root, names, [CROP])))
    seeds = []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "manual_seed", seeds.append)
        again = next(iter(_loader(root, names, [CROP])))
    assert seeds == [] and torch.equal(first.images, again.images)
    place, position = 0, int(first.indices[0])
    torch.manual_seed(derive_seed("file augmentation", 0, 0, place))
    assert torch.equal(DecodeRandomResizedCrop(32).decode(root / names[position]).float(), first.images[0])


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_file_is_named(root: Path, content: bytes | None) -> None:
    whole = (root / "3.jpg").read_bytes()
    (root / "3.jpg").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(LTBenchError, match=r"cannot decode image .*3\.jpg"):
        list(_loader(root, [f"{i}.jpg" for i in range(8)], [CROP]))


def test_a_truncated_file_is_named_at_a_fraction_too(root: Path) -> None:
    picture(400, 400).save(root / "3.jpg", quality=95)
    whole = (root / "3.jpg").read_bytes()
    (root / "3.jpg").write_bytes(whole[: len(whole) // 2])
    crop = {**CROP, "scale": [1.0, 1.0], "ratio": [1.0, 1.0]}
    with pytest.raises(LTBenchError, match=r"cannot decode image .*3\.jpg"):
        list(_loader(root, [f"{i}.jpg" for i in range(8)], [crop]))


def test_it_stands_first(root: Path) -> None:
    with pytest.raises(LTBenchError, match="stands behind another transform; put it first"):
        _loader(root, ["0.jpg", "1.jpg"], [dict(type="Resize", size=40), CROP])
    with pytest.raises(LTBenchError, match="works on no image that is decoded"):
        DecodeRandomResizedCrop(32)(picture(40, 40))


@pytest.mark.parametrize(
    "given",
    [
        {"size": 0},
        {"size": 32.0},
        {"size": 32, "scale": [0.5]},
        {"size": 32, "scale": 0.5},
        {"size": 32, "ratio": [2, 1]},
        {"size": 32, "ratio": ["1", "2"]},
    ],
)
def test_arguments_that_make_no_crop(given: dict) -> None:
    with pytest.raises(LTBenchError, match="decode_random_resized_crop: "):
        DecodeRandomResizedCrop(**given)
