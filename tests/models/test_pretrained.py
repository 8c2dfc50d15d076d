"""Pretrained weights: found, known by their content, checked against the backbone, loaded, partly frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from lt_bench.engine.identity import stage1_identity
from lt_bench.errors import LTBenchError
from lt_bench.models.pretrained import by_content, weights_file
from lt_bench.models.stage_one import build_backbone

ADDRESS = "https://download.invalid/models/resnet18-0123abcd.pth"


def backbone(checkpoint: Any, **own: Any) -> dict[str, Any]:
    """A ResNet-18 of an eighth of the channels."""
    narrow = {"stem_channels": 8, "base_channels": 8}
    init = {"type": "Pretrained", "checkpoint": str(checkpoint), **own.pop("init", {})}
    return {"type": "mmpretrain.ResNet", "depth": 18, **narrow, "init_cfg": init, **own}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as torchvision publishes them: those of the backbone, and of a classifier."""
    torch.manual_seed(0)
    plain = {**backbone("unused"), "init_cfg": None}
    state = {key: torch.rand_like(t.float()) for key, t in build_backbone(plain).state_dict().items()}
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save({**state, "fc.weight": torch.zeros(1000, 64)}, file)
    return file


def changed(weights: Path, file: Path, change: Any) -> Path:
    torch.save(change(torch.load(weights, weights_only=True)), file)
    return file


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_weights_are_loaded_when_training_starts(weights: Path, form: str) -> None:
    model = build_backbone(backbone(form.format(weights)))
    held = torch.load(weights, weights_only=True)
    model.init_weights()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor.float(), held[key].to(tensor.dtype).float()), key


def test_torchvision_s_weights_give_torchvision_s_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    init = {"type": "Pretrained", "checkpoint": str(tmp_path / "resnet50.pth")}
    ours = build_backbone({"type": "mmpretrain.ResNet", "depth": 50, "init_cfg": init})
    ours.init_weights()
    ours.eval()
    theirs.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[0].mean((2, 3)), theirs(images))


def test_weights_with_a_prefix(weights: Path, tmp_path: Path) -> None:
    def wrap(held: dict[str, Tensor]) -> dict[str, Any]:
        return {"meta": {}, "state_dict": {f"backbone.{key}": tensor for key, tensor in held.items()}}

    file = changed(weights, tmp_path / "mm.pth", wrap)
    with pytest.raises(LTBenchError, match="init_cfg.prefix='backbone'"):
        build_backbone(backbone(file))
    model = build_backbone(backbone(file, init={"prefix": "backbone"}))
    model.init_weights()
    assert torch.equal(model.conv1.weight, torch.load(weights, weights_only=True)["conv1.weight"])


def test_old_weights_without_counters_do(weights: Path, tmp_path: Path) -> None:
    def drop(held: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in held.items() if not key.endswith("num_batches_tracked")}

    build_backbone(backbone(changed(weights, tmp_path / "old.pth", drop)))


@pytest.mark.parametrize("stages", [-1, 0, 3, 4])
def test_the_trained_part_is_a_parameter(weights: Path, stages: int) -> None:
    model = build_backbone(backbone(weights, frozen_stages=stages))
    model.train()
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    whole = {f"layer{stage}" for stage in range(1, 5) if stage > stages}
    assert trained == whole | ({"conv1", "bn1"} if stages < 0 else set())
    # Statistics of the frozen part stay those of the weights.
    assert model.bn1.training == (stages < 0)
    assert model.layer4[1].bn2.training == (stages < 4)


def test_content_and_not_the_place_is_the_identity(weights: Path, tmp_path: Path) -> None:
    def identity(checkpoint: Any) -> str:
        config = {
            "train_transforms": [],
            "model": {"backbone": backbone(checkpoint)},
            "method": {"representation": {"type": "plain"}},
            "stage1": {},
        }
        return stage1_identity(config, "data", 0)

    copy = tmp_path / "elsewhere.pth"
    copy.write_bytes(weights.read_bytes())
    first = identity(weights)
    assert identity(copy) == identity(f"file://{copy}") == first
    changed(weights, copy, lambda held: {**held, "conv1.weight": held["conv1.weight"] + 1})
    assert identity(copy) != first
    held = by_content({"backbone": backbone(copy)})["backbone"]["init_cfg"]
    assert held["checkpoint"].startswith("sha256:") and str(tmp_path) not in str(held)


def test_what_is_missing_is_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(LTBenchError, match="no pretrained weights at .*none.pth; set model"):
        build_backbone(backbone(tmp_path / "none.pth"))
    with pytest.raises(LTBenchError, match="is the path or the address of pretrained weights, got None"):
        weights_file(None)
    (tmp_path / "text.pth").write_text("<html>")
    with pytest.raises(LTBenchError, match="text.pth cannot be read as pretrained weights"):
        build_backbone(backbone(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(LTBenchError, match="lacks 100 of the 100 tensors of ResNet"):
        build_backbone(backbone(tmp_path / "list.pth"))


@pytest.mark.parametrize("given", ["x.pth", {"type": "Pretraned"}, {}, {"type": []}, [None], 5])
def test_what_does_not_initialise_is_refused(given: Any) -> None:
    with pytest.raises(LTBenchError, match=r"init_cfg is dict\(type='Pretrained', .*Kaiming.*; got "):
        build_backbone({**backbone("unused"), "init_cfg": given})


def test_several_initialisations_are_each_checked(weights: Path) -> None:
    several = [{"type": "Kaiming", "layer": "Conv2d"}, backbone(weights)["init_cfg"]]
    model = build_backbone({**backbone("unused"), "init_cfg": several})
    model.init_weights()
    assert torch.equal(model.conv1.weight, torch.load(weights, weights_only=True)["conv1.weight"])
    with pytest.raises(LTBenchError, match=r"lacks \d+ of the \d+ tensors"):
        build_backbone({**backbone("unused", depth=34), "init_cfg": several})


def test_weights_of_another_backbone_are_refused(weights: Path) -> None:
    with pytest.raises(LTBenchError, match=r"lacks \d+ of the \d+ tensors of ResNet, the first is 'layer1.2"):
        build_backbone(backbone(weights, depth=34))
    with pytest.raises(LTBenchError, match=r"the first is 'conv1.weight' of shape \(16, 3, 7, 7\)"):
        build_backbone(backbone(weights, stem_channels=16, base_channels=16))


@pytest.mark.parametrize("wrong", [{"depth": 19}, {"frozen_stages": 7}, {"out_indices": [9]}])
def test_what_mmpretrain_does_not_build(weights: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(LTBenchError, match="model.backbone of type 'mmpretrain.ResNet' does not build"):
        build_backbone(backbone(weights, **wrong))


def test_an_address_is_looked_up_where_torch_keeps_them(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(LTBenchError, match=r"cannot be fetched from https://download.invalid/.*no network"):
        weights_file(ADDRESS)
    file = tmp_path / "hub" / "checkpoints" / "resnet18-0123abcd.pth"
    file.write_bytes(weights.read_bytes())
    with pytest.raises(LTBenchError, match="begins with [0-9a-f]{8} and not with 0123abcd; delete it"):
        weights_file(ADDRESS)
    digest = by_content({"backbone": backbone(weights)})["backbone"]["init_cfg"]["checkpoint"][7:15]
    right = file.rename(file.with_name(f"resnet18-{digest}.pth"))
    assert weights_file(f"https://download.invalid/models/resnet18-{digest}.pth") == right
