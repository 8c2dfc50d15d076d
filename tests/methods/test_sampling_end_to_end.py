"""Plain training under other samplers: CE-DRS and the balanced ones."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize(
    ("stem", "label"),
    [
        ("ce_drs", "CE-DRS"),
        ("class_balanced_sampling", "Class-balanced sampling"),
        ("square_root_sampling", "Square-root sampling"),
        ("progressive_sampling", "Progressive sampling"),
    ],
)
def test_end_to_end(short, launch, stem: str, label: str) -> None:
    (_, record), *_ = launch(short(stem, **{"stage1.epochs": 2}))
    assert record.label == label


def test_ce_drs_is_plain_training_until_the_switch(short, launch) -> None:
    options = {"stage1.epochs": 2, "method.representation.sampler.fraction": 0.5}
    drs, plain = launch(short("ce_drs", **options)), launch(short("plain", **{"stage1.epochs": 2}))
    (path, record), (_, base) = drs[0], plain[0]

    def saved(epoch: int, identity: str) -> dict:
        folder = path.parents[3] / "work" / "stage1" / identity
        return torch.load(folder / f"epoch_{epoch}.pth", weights_only=False)["state_dict"]

    for epoch, same in ((1, True), (2, False)):
        weights = saved(epoch, record.stage1["identity"]), saved(epoch, base.stage1["identity"])
        assert torch.equal(weights[0]["head.weight"], weights[1]["head.weight"]) is same
