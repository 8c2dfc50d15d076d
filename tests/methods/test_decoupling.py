"""cRT, LWS, tau-norm and NCM against slow float64 loops."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from lt_bench.errors import LTBenchError
from lt_bench.fitting import HeadRecipe, HeadTrainer, shuffled_batches
from lt_bench.method import Features
from lt_bench.models.expert_head import ExpertHead
from lt_bench.models.heads import CosineHead, PrototypeHead, ScaledHead, linear_head
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed
from lt_bench.task import Task
from methods.fslwf import SharedBiasCosineHead
from methods.ncm import class_prototypes
from methods.tau_norm import normalised_head, tau_accuracies

CLASSES, DIM = 4, 6


def task() -> Task:
    counts = torch.tensor([9, 5, 3, 1])
    return Task("toy", tuple("abcd"), counts, "strict", torch.full((4,), 2, dtype=torch.int8))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, CLASSES, (n,), generator=torch.Generator().manual_seed(seed))


def split(n: int, seed: int) -> Features:
    return Features(draw(n, DIM, seed=seed), labels(n, seed))


class Epochs:
    """Feature epochs from memory, in the class-aware sampler's stead."""

    def __init__(self, data: Features, batch: int) -> None:
        self.data, self.batch = data, batch
        self.asked: list[int] = []

    def epoch(self, epoch: int):
        self.asked.append(epoch)
        return zip(self.data.features.split(self.batch), self.data.labels.split(self.batch), strict=True)


def stage(head: torch.nn.Module, *, val: Features | None = None) -> SimpleNamespace:
    train = split(18, 5)
    epochs: list[Epochs] = []

    def image_features(sampler, *, batch_size, epochs: int):
        made = Epochs(train, batch_size)
        made.sampler, made.count = dict(sampler), epochs
        opened.append(made)
        return made

    opened: list[Epochs] = epochs
    return SimpleNamespace(
        task=task(),
        feature_dim=DIM,
        head=head,
        seed=7,
        epochs=3,
        device=torch.device("cpu"),
        features={"train": train, "val": val, "test": split(40, 9)}.get,
        image_features=image_features,
        opened=opened,
    )


def build(kind: str, **options):
    return METHODS.build({"type": kind, "task": task(), **options})


@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0, 2.0])
def test_tau_norm_formula(tau: float) -> None:
    weight, z = draw(CLASSES, DIM), draw(3, DIM, seed=4)
    head = normalised_head(weight, tau)
    assert head.bias is None
    for i in range(3):
        for j in range(CLASSES):
            norm = math.sqrt(sum(float(w) ** 2 for w in weight[j]))
            expected = sum(float(a) * float(b) for a, b in zip(weight[j], z[i], strict=True)) / norm**tau
            assert float(head(z)[i, j].detach()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.2, 2.0])
def test_a_row_of_zeros_stays_one(tau: float) -> None:
    weight = draw(CLASSES, DIM)
    weight[1] = 0
    head = normalised_head(weight, tau)
    assert torch.isfinite(head.weight).all() and not head.weight[1].any()


@pytest.mark.parametrize("tau", [-1, 2.5, 60, math.nan, math.inf, True, "1"])
def test_another_tau_is_told(tau: object) -> None:
    with pytest.raises(LTBenchError, match="tau_norm's tau is"):
        build("tau_norm", tau=tau)


def test_all_taus_in_one_pass_equal_each_alone() -> None:
    data, weight = split(200, 3), draw(CLASSES, DIM) * torch.tensor([[3.0], [1.0], [0.5], [0.1]])
    taus = [float(t) for t in torch.linspace(0, 2, 21)]
    found = tau_accuracies(data.features, data.labels, weight, taus)
    for tau, accuracy in zip(taus, found.tolist(), strict=True):
        predictions = (data.features.double() @ normalised_head(weight, tau).weight.double().T).argmax(1)
        per_class = []
        for j in range(CLASSES):
            members = [int(p) == j for p, y in zip(predictions, data.labels, strict=True) if int(y) == j]
            per_class.append(sum(members) / len(members))
        assert accuracy == pytest.approx(sum(per_class) / CLASSES, abs=1e-6)


def test_tau_is_chosen_on_validation_only() -> None:
    head, val = linear_head(DIM, CLASSES, 0), split(60, 8)
    fitted = build("tau_norm").fit(stage(head, val=val))
    assert fitted.selected_on == "val"
    scores = tau_accuracies(val.features, val.labels, head.weight.detach(), [fitted.selected["tau"]])
    best = tau_accuracies(
        val.features, val.labels, head.weight.detach(), torch.linspace(0, 2, 21).tolist()
    ).max()
    assert float(scores) == float(best)
    assert build("tau_norm", select_on="test").fit(stage(head)).selected_on == "test"
    fixed = build("tau_norm", tau=1.0).fit(stage(head))
    assert fixed.selected_on == "none" and not fixed.selected
    torch.testing.assert_close(fixed.head.weight.norm(dim=1), torch.ones(CLASSES))


def test_the_chosen_tau_is_the_one_applied() -> None:
    """Labels are what tau = 0.5 predicts, so that neither end of the range is chosen."""
    norms = torch.tensor([[3.0], [1.0], [0.5], [0.1]])
    head, images = normalised_head(linear_head(DIM, CLASSES, 0).weight.detach() * norms, 0.0), draw(400, DIM)
    val = Features(images, normalised_head(head.weight.detach(), 0.5)(images).argmax(1))
    fitted = build("tau_norm").fit(stage(head, val=val))
    tau = fitted.selected["tau"]
    assert 0 < tau < 1
    rows = head.weight.detach()
    torch.testing.assert_close(fitted.head.weight.detach(), rows / rows.norm(dim=1, keepdim=True) ** tau)


def test_tau_without_a_split_or_a_weight_says_what_to_do() -> None:
    with pytest.raises(LTBenchError, match=r"classifier\.tau=1\.0"):
        build("tau_norm").check(splits={"train", "test"}, epochs=3)
    build("tau_norm").check(splits={"train", "val", "test"}, epochs=3)
    build("tau_norm", tau=1.0).check(splits={"train", "test"}, epochs=3)
    with pytest.raises(LTBenchError, match="'val' or 'test'"):
        build("tau_norm", select_on="train")
    with pytest.raises(LTBenchError, match="2 or more; got 0"):
        build("tau_norm", taus=0)


HEADS = [CosineHead(DIM, CLASSES, 30.0), SharedBiasCosineHead(DIM, CLASSES), ExpertHead(DIM, CLASSES, 2)]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_only_a_linear_head_has_norms_to_even_out(head: torch.nn.Module) -> None:
    for kind in ("tau_norm", "weight_balancing", "oltr"):
        with pytest.raises(LTBenchError, match=f"{kind} .* linear stage-1 head.*, got {type(head).__name__}"):
            build(kind).check_head(head)
        build(kind).check_head(linear_head(DIM, CLASSES, 0))
    with pytest.raises(LTBenchError, match="tau_norm evens out"):
        build("tau_norm", tau=1.0).fit(stage(head))


def test_no_tau_changes_what_a_cosine_head_predicts() -> None:
    """Why it is refused: each row counts with one norm, whatever norm it is stored with."""
    head, z = CosineHead(DIM, CLASSES, 30.0), draw(40, DIM, seed=3).double()
    rows = torch.nn.functional.normalize(
        head.weight.detach().double() * torch.tensor([[1.0], [2], [9], [0.1]])
    )
    for tau in (0.0, 0.7, 2.0):
        scaled = (30 * rows) / (30 * rows).norm(dim=1, keepdim=True) ** tau
        assert torch.equal((z @ scaled.T).argmax(1), head.double()(z).argmax(1))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_lws_scales_what_any_head_says(head: torch.nn.Module) -> None:
    fitted = build("lws", recipe={"batch_size": 9, "lr": 0.01}).fit(stage(head))
    z = draw(5, DIM, seed=2)
    torch.testing.assert_close(fitted.head(z), head(z) * fitted.head.scales)
    assert not torch.equal(fitted.head.scales, torch.ones(CLASSES))


def test_ncm_formula() -> None:
    train, z = split(50, 2), draw(5, DIM, seed=6)
    logits = build("ncm").fit(SimpleNamespace(features={"train": train}.get)).head(z)
    rows = train.features.double().tolist()
    centre = [sum(row[k] for row in rows) / len(rows) for k in range(DIM)]

    def normalised(row: list[float]) -> list[float]:
        moved = [a - b for a, b in zip(row, centre, strict=True)]
        norm = math.sqrt(sum(v * v for v in moved))
        return [v / norm for v in moved]

    for j in range(CLASSES):
        members = [normalised(r) for r, y in zip(rows, train.labels, strict=True) if int(y) == j]
        prototype = [sum(m[k] for m in members) / len(members) for k in range(DIM)]
        for i in range(5):
            point = normalised(z[i].double().tolist())
            distance = sum((a - b) ** 2 for a, b in zip(point, prototype, strict=True))
            assert float(logits[i, j]) == pytest.approx(-distance, rel=1e-4, abs=1e-5)


def test_ncm_with_one_sample_and_with_equal_features() -> None:
    same = torch.ones(4, DIM)
    centre, prototypes = class_prototypes(same, torch.arange(4), CLASSES)
    logits = PrototypeHead(centre, prototypes)(same)
    assert torch.isfinite(logits).all()


def test_lws_scales_the_whole_logit_and_only_scales_learn() -> None:
    head = linear_head(DIM, CLASSES, 0)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    given = stage(head)
    fitted = build("lws", recipe={"batch_size": 9, "lr": 0.5}).fit(given)
    assert given.opened[0].asked == [1, 2, 3, 4, 5]
    assert isinstance(fitted.head, ScaledHead) and not torch.equal(fitted.head.scales, torch.ones(CLASSES))
    assert all(torch.equal(head.state_dict()[k], before[k]) for k in before)
    assert all(p.requires_grad for p in head.parameters()), "stage 1's own head stays as it was"
    z = draw(3, DIM, seed=2)
    for i in range(3):
        for j in range(CLASSES):
            whole = float(before["weight"][j].double() @ z[i].double() + before["bias"][j].double())
            expected = float(fitted.head.scales[j].detach()) * whole
            assert float(fitted.head(z)[i, j].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_crt_trains_a_new_head_by_class_aware_sampling() -> None:
    head = linear_head(DIM, CLASSES, 0)
    given = stage(head)
    fitted = build("crt", recipe={"batch_size": 9, "lr": 0.1, "epochs": 4}).fit(given)
    assert given.opened[0].asked == [1, 2, 3, 4]
    assert given.opened[0].sampler == {"type": "class_aware", "per_visit": 4}
    assert not torch.equal(fitted.head.weight, head.weight)
    again = build("crt", recipe={"batch_size": 9, "lr": 0.1, "epochs": 4}).fit(stage(head))
    assert torch.equal(fitted.head.weight, again.head.weight)


def test_crt_starts_anew_and_not_from_the_head_of_stage_1() -> None:
    head = linear_head(DIM, CLASSES, 0)
    untrained = build("crt", recipe={"batch_size": 9, "lr": 0.0, "epochs": 1}).fit(stage(head)).head
    new = linear_head(DIM, CLASSES, derive_seed(7, "crt"))
    assert torch.equal(untrained.weight, new.weight) and torch.equal(untrained.bias, new.bias)


def test_rate_follows_the_cosine_and_spends_no_epoch_at_0() -> None:
    recipe = HeadRecipe(epochs=10, lr=0.2)
    rates = [recipe.rate(e) for e in range(1, 11)]
    assert rates[0] == 0.2 and rates[5] == pytest.approx(0.1) and rates[-1] > 0
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", math.nan), ("lr", math.inf), ("weight_decay", math.nan), ("momentum", -1), ("epochs", True)],
)
def test_a_recipe_of_no_use_is_told(key: str, value: object) -> None:
    with pytest.raises(LTBenchError, match=f"the recipe's {key} is"):
        HeadRecipe.of({key: value})


def test_nan_loss_and_no_batch_are_told() -> None:
    trainer = HeadTrainer(linear_head(DIM, CLASSES, 0), HeadRecipe(), torch.device("cpu"))
    with pytest.raises(LTBenchError, match="no batch.*batch_size"):
        trainer.epoch(1, [])
    with pytest.raises(LTBenchError, match=r"loss became nan.*recipe\.lr"):
        trainer.epoch(1, [(torch.full((2, DIM), math.nan), labels(2))])


def test_batches_are_a_shuffle() -> None:
    data = Features(torch.arange(10.0).unsqueeze(1), torch.arange(10))
    batches = list(shuffled_batches(data.features, data.labels, 4, torch.Generator().manual_seed(0)))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    seen = torch.cat([y for _, y in batches])
    assert sorted(seen.tolist()) == list(range(10)) and seen.tolist() != list(range(10))
    assert all(torch.equal(x.squeeze(1).long(), y) for x, y in batches)


def test_cosine_head_formula() -> None:
    head, z = CosineHead(DIM, CLASSES, 30.0), draw(3, DIM, seed=2)
    w = head.weight.detach().double()
    for i in range(3):
        for j in range(CLASSES):
            cosine = float(w[j] @ z[i].double()) / float(w[j].norm() * z[i].double().norm())
            assert float(head(z)[i, j].detach()) == pytest.approx(30 * cosine, rel=1e-4, abs=1e-4)
