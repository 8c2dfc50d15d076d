"""What does not fit a dataset's images is said before anything is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lt_bench.config import Experiment, load_experiment
from lt_bench.engine.network import check_network
from lt_bench.errors import LTBenchError
from lt_bench.registry import MODELS
from lt_bench.run import jobs as run_jobs
from lt_bench.run.jobs import Settings, jobs_of
from tests.image_trees import write_imagenet_lt
from tests.short import SHORT

Short = Callable[..., Experiment]


def jobs(folder: Path, *experiments: Experiment, seeds: tuple[int, ...] = (0,)) -> list[Any]:
    return jobs_of(experiments, seeds, Settings(folder / "work", folder / "records"))


@MODELS.register_module("shaped_for_a_test")
class Shaped(nn.Module):
    """Gives what a test asks for, whatever the images."""

    def __init__(self, shape: list[int] | None = None, wrap: bool = False) -> None:
        super().__init__()
        self.shape, self.wrap = shape, wrap

    def forward(self, images: Tensor) -> Any:
        if self.shape is None:
            return {"map": images}
        out = images.new_zeros(len(images), *self.shape)
        return (images, out) if self.wrap else out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model.backbone.in_channels": 3}, r"does not take images of shape \(1, 8, 8\): .*in_channels"),
        ({"model.feature_dim": 10}, r"gives \(2, 64, 2, 2\) for two images, expected is \(2, 10\)"),
        ({"test_transforms": [{"type": "batch_normalise"}]}, "did you mean 'batch_norm"),
        ({"test_transforms": [{"type": "batch_random_flip"}]}, "random"),
        ({"test_transforms": []}, "leave the images as torch.uint8"),
    ],
)
def test_what_does_not_fit_is_said_before_training(
    short: Short, launch: Callable, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        launch(short("plain", **options))
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("backbone", "fits"),
    [
        ({"shape": [5]}, True),
        ({"shape": [5, 3, 2], "wrap": True}, True),
        ({"shape": [4, 5]}, False),
        ({"shape": [4]}, False),
        ({}, False),
    ],
)
def test_what_a_backbone_gives(short: Short, backbone: dict[str, Any], fits: bool, tmp_path: Path) -> None:
    model = {"backbone": {"type": "shaped_for_a_test", "_delete_": True, **backbone}, "feature_dim": 5}
    experiment = short("plain", model=model)
    if fits:
        jobs(tmp_path, experiment)
    else:
        with pytest.raises(LTBenchError, match="'shaped_for_a_test' gives .*set model.feature_dim"):
            jobs(tmp_path, experiment)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "resnet10"},
        {"type": "mmpretrain.ResNet", "depth": 18, "stem_channels": 8, "base_channels": 8},
        {"type": "expert_cifar_resnet", "depth": 8, "width": 4},
    ],
)
def test_images_in_files(tmp_path: Path, model: dict[str, Any]) -> None:
    root = str(write_imagenet_lt(tmp_path))
    given: dict[str, Any] = {"dataset.root": root, "dataset.require_public": False}
    given |= {"model.backbone": {"_delete_": True, **model}, "stage1.epochs": 2}
    dims = {"resnet10": 512, "mmpretrain.ResNet": 64, "expert_cifar_resnet": 3 * 12}
    given |= {"runtime.workers": 2, "model.feature_dim": dims[model["type"]]}
    jobs(tmp_path, load_experiment("imagenet_lt/plain_r10", given))
    narrow = [{"type": "Resize", "size": [8, 8]}, {"type": "CenterCrop", "sise": 8}]
    with pytest.raises(LTBenchError, match="transform 'CenterCrop'.*sise"):
        jobs(tmp_path, load_experiment("imagenet_lt/plain_r10", {**given, "test_transforms": narrow}))
    with pytest.raises(LTBenchError, match="set model.feature_dim"):
        jobs(tmp_path, load_experiment("imagenet_lt/plain_r10", {**given, "model.feature_dim": 7}))


def generated(images: int, batch_size: int, **options: Any) -> Experiment:
    """A network that ends in a map of 1 x 1."""
    dataset = {"type": "generated_lt", "_delete_": True, "counts": [images - 3, 2, 1], "image_size": 4}
    backbone = {"type": "cifar_resnet", "_delete_": True, "depth": 8, "width": 4}
    given = {"dataset": dataset, "model.backbone": backbone, "stage1.batch_size": batch_size, **options}
    normal = [{"type": "batch_normalize", "mean": [128.0] * 3, "std": [32.0] * 3}]
    return load_experiment(
        "digits_lt/plain", {**SHORT_HERE, "train_transforms": normal, "test_transforms": normal, **given}
    )


SHORT_HERE = {key: value for key, value in SHORT.items() if not key.startswith("dataset.")}


@pytest.mark.parametrize(("images", "batch_size"), [(33, 32), (32, 1)])
def test_a_last_batch_of_one_image(tmp_path: Path, launch: Callable, images: int, batch_size: int) -> None:
    refused = generated(images, batch_size)
    with pytest.raises(LTBenchError, match=f"{images} training images in batches of {batch_size} end in one"):
        jobs(tmp_path, refused)


def test_a_process_s_last_batch_of_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 35 images in batches of 32 two processes have two and one; only batch norm of their own minds."""
    monkeypatch.setattr("lt_bench.engine.network.get_world_size", lambda: 2)
    jobs(tmp_path, generated(35, 32))
    with pytest.raises(LTBenchError, match="end in one image"):
        jobs(tmp_path, generated(35, 32, **{"stage1.numerics.batch_norm": "rank"}))


def test_a_last_batch_of_one_image_where_it_does_no_harm(tmp_path: Path, launch: Callable) -> None:
    sampled = {"method.representation": {"type": "plain", "sampler": {"type": "class_aware"}}}
    jobs(tmp_path, generated(33, 32, **sampled))
    wider = generated(33, 32, **{"dataset.image_size": 8})
    launch(wider)


def test_a_network_is_looked_at_once_and_draws_nothing(
    short: Short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(run_jobs, "check_network", lambda config, data, single: seen.append(config))
    other = dataclasses.replace(short("plain", **{"model.backbone.width": 4}), name="digits_lt/narrow")
    jobs(tmp_path, short("plain"), short("crt"), short("ldam"), other, seeds=(0, 1))
    assert [config["model"]["backbone"]["width"] for config in seen] == [16, 4]
    (job,) = jobs(tmp_path, short("plain"))
    before = torch.get_rng_state(), np.random.get_state()[2]
    check_network(job.experiment.config, job.stage.data, single=False)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[2] == before[1]
