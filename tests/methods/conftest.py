"""What tests of several methods share."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture()
def sgd_steps(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, Any]]]:
    """The parameter groups, with their rates, of every step that SGD takes from now on."""
    seen: list[list[dict[str, Any]]] = []
    step = torch.optim.SGD.step

    def spy(self, *given):
        seen.append([dict(group) for group in self.param_groups])
        return step(self, *given)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    return seen
