"""OLTR: its attention, head, loss and training against slow float64 loops."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.models.heads import CosineHead
from lt_bench.models.stage_one import Numerics, StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.oltr import (
    DirectFeatures,
    MetaEmbeddingHead,
    ModulatedAttention,
    centroid_loss,
    class_means,
    direct_layer,
    memory_pull,
    nearest_distance,
)

CLASSES, DIM = 4, 6


def task(counts: tuple[int, ...] = (20, 12, 6, 2)) -> Task:
    tensor = torch.tensor(counts)
    return Task("toy", tuple("abcd"), tensor, "strict", shot_groups(tensor, "strict"))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, CLASSES, (n,), generator=torch.Generator().manual_seed(seed))


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def affine(layer: nn.Module, x: list[float]) -> list[float]:
    rows = layer.weight.detach().flatten(1).tolist()
    return [dot(row, x) + b for row, b in zip(rows, layer.bias.detach().tolist(), strict=True)]


def attention(d: int = 4, h: int = 2, w: int = 3) -> ModulatedAttention:
    module = ModulatedAttention(d, h, w, seed=5).double()
    with torch.no_grad():
        module.out.weight.copy_(draw(*module.out.weight.shape, seed=11))
        module.out.bias.copy_(draw(d, seed=12))
        module.theta.bias.copy_(draw(d // 2, seed=13))
    return module


def test_modulated_attention_formula() -> None:
    d, h, w = 4, 2, 3
    module, maps = attention(d, h, w), draw(2, d, h, w, seed=3)
    found = module(maps)
    assert module.theta.out_channels == d // 2
    for i in range(2):
        places = [[float(maps[i, c, y, x]) for c in range(d)] for y in range(h) for x in range(w)]
        flat = [float(maps[i, c, y, x]) for c in range(d) for y in range(h) for x in range(w)]
        where = softmax(affine(module.spatial, flat))
        theta = [affine(module.theta, place) for place in places]
        phi = [affine(module.phi, place) for place in places]
        value = [affine(module.value, place) for place in places]
        for p in range(h * w):
            weights = softmax([dot(theta[p], phi[q]) for q in range(h * w)])
            gathered = [sum(weights[q] * value[q][k] for q in range(h * w)) for k in range(d // 2)]
            attended = affine(module.out, gathered)
            for c in range(d):
                expected = places[p][c] + attended[c] * where[p]
                assert float(found[i, c, p // w, p % w].detach()) == pytest.approx(expected, abs=1e-12)


def test_attention_starts_as_the_identity_and_has_gradients() -> None:
    maps = draw(3, 4, 2, 3, seed=3)
    assert torch.equal(ModulatedAttention(4, 2, 3, seed=1).double()(maps), maps)
    assert torch.autograd.gradcheck(attention(), (maps.requires_grad_(),))
    with pytest.raises(LTBenchError, match=r"made for feature maps of shape \(4, 2, 3\), got \(4, 3, 3\)"):
        attention()(draw(1, 4, 3, 3))
    one = ModulatedAttention(1, 1, 1, seed=1)
    assert one(torch.ones(1, 1, 1, 1)).item() == 1


def meta_head(seed: int = 0) -> MetaEmbeddingHead:
    return MetaEmbeddingHead(draw(CLASSES, DIM, seed=seed).float(), seed=3).double()


def test_meta_embedding_formula() -> None:
    head, v = meta_head(), draw(5, DIM, seed=2)
    found = head(v).detach()
    memory, weight = head.memory.detach().tolist(), head.weight.detach().tolist()
    for i, row in enumerate(v.tolist()):
        coefficients = softmax(affine(head.hallucinator, row))
        recalled = [sum(coefficients[j] * memory[j][k] for j in range(CLASSES)) for k in range(DIM)]
        selector = [math.tanh(s) for s in affine(head.selector, row)]
        gamma = 10 / min(math.dist(row, centre) for centre in memory)
        u = [gamma * (row[k] + selector[k] * recalled[k]) for k in range(DIM)]
        norm = math.hypot(*u)
        for j in range(CLASSES):
            squashed = [norm / (1 + norm) * value / norm for value in u]
            expected = 16 * dot(squashed, weight[j]) / math.hypot(*weight[j])
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-10)


def test_the_classifier_sees_the_memory_detached() -> None:
    head, v = meta_head(), draw(5, DIM, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(head, (v,))
    head(v).sum().backward()
    assert head.memory.grad is None
    assert all(p.grad is not None for name, p in head.named_parameters() if name != "memory")


def test_hallucinator_starts_at_stage_one() -> None:
    weight, bias, z = draw(CLASSES, 4), draw(CLASSES, seed=4), draw(3, 4, seed=6).abs()
    head = meta_head()
    assert head.hallucinate_from(weight, bias)
    v = torch.relu(direct_layer(4, DIM, seed=1).double()(z))
    torch.testing.assert_close(v[:, :4], z)
    torch.testing.assert_close(head.hallucinator(v), z @ weight.T + bias)
    before = head.hallucinator.weight.clone()
    assert not head.hallucinate_from(draw(CLASSES, DIM + 1), None)
    assert torch.equal(head.hallucinator.weight, before)
    assert direct_layer(9, DIM, seed=1).weight.shape == (DIM, 9)


def oracle_loss(v: list[list[float]], y: list[int], memory: list[list[float]]) -> float:
    size, classes = len(v), len(memory)
    pull = sum(math.dist(v[i], memory[y[i]]) ** 2 for i in range(size)) / (2 * size)
    far = sum(math.dist(v[i], memory[j]) ** 2 for i in range(size) for j in range(classes) if j != y[i])
    return pull + 0.01 * max(0.0, 10 - far / (size * classes))


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_centroid_loss_formula_and_damped_pull(spread: float) -> None:
    """Below and above the margin of the push."""
    v, y = (spread * draw(7, DIM, seed=2)).requires_grad_(), labels(7)
    memory = (spread * draw(CLASSES, DIM, seed=3)).requires_grad_()
    loss = centroid_loss(v, y, memory)
    rows, centres = v.detach().tolist(), memory.detach().tolist()
    assert float(loss.detach()) == pytest.approx(oracle_loss(rows, y.tolist(), centres), rel=1e-12)
    # As trained: L_DC weighs .01, the pull on the memory does not.
    (0.01 * loss + memory_pull(v, y, memory)).backward()
    far = sum(math.dist(rows[i], centres[j]) ** 2 for i in range(7) for j in range(CLASSES) if j != int(y[i]))
    pushing = far / (7 * CLASSES) < 10
    assert pushing == (spread < 1)
    for j in range(CLASSES):
        own = [i for i in range(7) if int(y[i]) == j]
        for k in range(DIM):
            pull = sum(centres[j][k] - rows[i][k] for i in own) / 7 / (1 + len(own))
            push = sum(2 * (centres[j][k] - rows[i][k]) for i in range(7) if i not in own) / (7 * CLASSES)
            expected = pull - 0.01 * 0.01 * push * pushing
            assert float(memory.grad[j, k]) == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: centroid_loss(x, y, memory.detach()), (v,))


def test_nearest_distance() -> None:
    v, memory = draw(5, DIM, seed=2).requires_grad_(), draw(CLASSES, DIM, seed=3)
    for i, found in enumerate(nearest_distance(v, memory).tolist()):
        assert found == pytest.approx(min(math.dist(v[i].tolist(), row) for row in memory.tolist()))
    assert torch.autograd.gradcheck(lambda x: nearest_distance(x, memory), (v,))


@pytest.mark.parametrize(
    ("rows", "classes"),
    [
        (torch.zeros(3, DIM), [0, 1, 2]),
        (torch.ones(4, DIM), [2, 2, 2, 2]),
        (torch.full((2, DIM), 1e4), [0, 3]),
        (draw(1, DIM).float(), [1]),
        (draw(3, DIM).bfloat16(), [0, 1, 1]),
    ],
    ids=["zero", "equal, one class", "huge", "one sample", "bfloat16"],
)
@pytest.mark.parametrize("on_centroid", [False, True])
def test_extreme_features_stay_finite(rows: torch.Tensor, classes: list[int], on_centroid: bool) -> None:
    memory = rows[:1].float().repeat(CLASSES, 1) if on_centroid else draw(CLASSES, DIM).float()
    head, v = MetaEmbeddingHead(memory, seed=3), rows.clone().requires_grad_()
    y = torch.tensor(classes)
    logits = head(v)
    loss = nn.functional.cross_entropy(logits, y) + 0.01 * centroid_loss(v.float(), y, head.memory)
    loss = loss + memory_pull(v.float(), y, head.memory)
    loss.backward()
    assert logits.shape == (len(rows), CLASSES) and logits.abs().max() <= 16.001
    assert torch.isfinite(loss) and torch.isfinite(v.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


class Backbone(nn.Module):
    """A convolution with batch norm; pools itself where asked."""

    def __init__(self, pools: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, DIM, 1), nn.BatchNorm2d(DIM)
        self.pools = pools

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.norm(self.conv(images)))
        return maps.mean((2, 3)) if self.pools else maps


class Epochs:
    """Batches of images from memory."""

    def __init__(self, batches: list[Batch], sampler: dict, batch_size: int) -> None:
        self.batches, self.sampler, self.batch_size = batches, sampler, batch_size
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int):
        self.asked.append(epoch)
        yield from self.batches


def stage(pools: bool = False, head: nn.Module | None = None, bad: bool = False) -> SimpleNamespace:
    torch.manual_seed(0)
    head = nn.Linear(DIM, CLASSES) if head is None else head
    model = StageOneModel(Backbone(pools), head, lambda m, b: None, Numerics()).eval()
    images, y = draw(16, 1, 3, 3, seed=8).float(), torch.arange(16) % CLASSES
    images += y.view(-1, 1, 1, 1)
    if bad:
        images[0] = math.nan
    batches = [
        Batch(i, j, k) for i, j, k in zip(images.split(8), y.split(8), torch.arange(16).split(8), strict=True)
    ]
    opened: list[Epochs] = []

    def give(sampler, *, batch_size: int, epochs: int) -> Epochs:
        opened.append(Epochs(batches, dict(sampler), batch_size))
        return opened[-1]

    return SimpleNamespace(
        task=task(),
        feature_dim=DIM,
        head=head,
        seed=7,
        epochs=3,
        device=torch.device("cpu"),
        images=give,
        model_copy=lambda: copy.deepcopy(model).requires_grad_(True),
        opened=opened,
        model=model,
        batches=batches,
    )


def build(**options):
    small = {"hidden": 8, "batch_size": 8, "epochs": 3, **options}
    return METHODS.build({"type": "oltr", "task": task(), **small})


def test_class_means_are_plain_means() -> None:
    given = stage()
    network = DirectFeatures(given.model_copy(), None, direct_layer(DIM, 8, seed=1), True).eval()
    means = class_means(network, given.batches, CLASSES)
    with torch.no_grad():
        v = torch.cat([network.features(batch.images) for batch in given.batches])
    for j in range(CLASSES):
        members = [v[i].tolist() for i in range(16) if i % CLASSES == j]
        for k in range(8):
            assert float(means[j, k]) == pytest.approx(sum(m[k] for m in members) / len(members), abs=1e-6)


def test_fit_trains_the_backbone_and_the_memory() -> None:
    given = stage()
    before = {k: v.clone() for k, v in given.model.state_dict().items()}
    fitted = build().fit(given)
    assert given.opened[0].sampler == {"type": "instance"}
    assert given.opened[1].sampler == {"type": "class_aware", "per_visit": 4}
    assert given.opened[1].asked == [1, 2, 3]
    assert all(torch.equal(given.model.state_dict()[k], before[k]) for k in before), "stage 1 stays"
    backbone = fitted.model.stage_one.backbone
    assert not torch.equal(backbone.conv.weight, before["backbone.conv.weight"])
    assert not torch.equal(backbone.norm.running_mean, before["backbone.norm.running_mean"])
    assert not fitted.model.training and not backbone.training and not fitted.head.training
    assert fitted.batch_norm == "train" and fitted.selected_on == "none"
    assert fitted.notes["memory"]["shape"] == [CLASSES, 8]
    assert fitted.notes["memory"]["mean_distance_moved"] > 0
    assert fitted.notes["modulated_attention"] == "feature map 6x3x3"
    assert fitted.model.attention.out.weight.abs().max() > 0, "attention learned"
    v = fitted.model.features(given.batches[0].images)
    assert v.shape == (8, 8) and v.min() >= 0 and fitted.head(v).shape == (8, CLASSES)
    again = build().fit(stage())
    assert torch.equal(again.head.weight, fitted.head.weight)


def test_memory_follows_its_own_rate() -> None:
    still = build(memory_lr=0.0).fit(stage())
    assert still.notes["memory"]["mean_distance_moved"] == 0


def test_a_frozen_backbone_keeps_weights_and_statistics() -> None:
    given = stage()
    fitted = build(train_backbone=False).fit(given)
    mine, theirs = fitted.model.stage_one.backbone.state_dict(), given.model.backbone.state_dict()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    assert fitted.batch_norm == "eval" and fitted.notes["backbone"] == "frozen"
    assert fitted.model.attention.out.weight.abs().max() > 0, "attention learned"


def test_a_backbone_that_pools_has_no_attention() -> None:
    fitted = build().fit(stage(pools=True))
    assert fitted.model.attention is None
    assert fitted.notes["modulated_attention"] == "left out: the backbone pools itself"


def test_fewer_dimensions_than_the_backbone() -> None:
    fitted = build(hidden=3).fit(stage())
    assert fitted.notes["hallucinator"].startswith("random")
    assert fitted.head(fitted.model.features(draw(2, 1, 3, 3).float())).shape == (2, CLASSES)


def test_rates_fall_by_10_every_step() -> None:
    method = build(epochs=60)
    assert method.step == 20
    assert [method.rate(e) for e in (1, 20, 21, 40, 41, 60)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert build(epochs=2).step == 1


def test_all_three_rates_fall(sgd_steps: list[list[dict]]) -> None:
    build(epochs=3, step=1, backbone_lr=0.01, head_lr=0.1, memory_lr=0.02).fit(stage())
    assert len(sgd_steps) == 6, "two steps an epoch"
    for epoch in range(3):
        expected = pytest.approx([rate / 10**epoch for rate in (0.01, 0.1, 0.02)])
        for groups in sgd_steps[2 * epoch : 2 * epoch + 2]:
            assert [group["lr"] for group in groups] == expected
            assert all((group["momentum"], group["weight_decay"]) == (0.9, 5e-4) for group in groups)


def test_a_step_follows_all_terms_at_their_rates() -> None:
    """CE + weight · L_DC and the pull on the memory, which no weight damps."""
    plain_steps = {"momentum": 0.0, "weight_decay": 0.0, "train_backbone": False, "epochs": 1}

    def fitted(**rates: float):
        given = stage()
        every_batch = given.images

        def images(sampler: dict, **sizes: int) -> Epochs:
            opened = every_batch(sampler, **sizes)
            # The memory starts at means of all images: at those of its one batch no class would pull it.
            if sampler["type"] == "class_aware":
                opened.batches = opened.batches[:1]
            return opened

        given.images = images
        return build(**plain_steps, centroid_weight=0.7, **rates).fit(given)

    start = fitted(backbone_lr=0.0, head_lr=0.0, memory_lr=0.0)
    after = fitted(backbone_lr=0.1, head_lr=0.2, memory_lr=0.5)
    memory = start.head.memory.detach().clone()
    learned = {
        "fc": (start.model.fc.weight, after.model.fc.weight, 0.1),
        "attention": (start.model.attention.out.weight, after.model.attention.out.weight, 0.1),
        "classifier": (start.head.weight, after.head.weight, 0.2),
        "hallucinator": (start.head.hallucinator.weight, after.head.hallucinator.weight, 0.2),
        "memory": (memory, after.head.memory, 0.5),
    }
    inputs = [before.requires_grad_() for before, _, _ in learned.values()]

    batch = stage().batches[0]
    y, size = batch.labels, len(batch.labels)
    v = start.model.features(batch.images)
    to_own = far = to_memory = torch.zeros(())
    for i, own in enumerate(y.tolist()):
        to_own = to_own + (v[i] - memory[own].detach()).square().sum() / (2 * size)
        far = far + sum((v[i] - memory[j]).square().sum() for j in range(CLASSES) if j != own)
        pull = (memory[own] - v[i].detach()).square().sum() / (2 * size)
        to_memory = to_memory + pull / (1 + int((y == own).sum()))
    push = 10 - far / (size * CLASSES)
    assert push > 0, "the push takes part"
    loss = nn.functional.cross_entropy(start.head(v), y) + 0.7 * (to_own + 0.01 * push) + to_memory
    gradients = torch.autograd.grad(loss, inputs)
    for (name, (before, found, rate)), gradient in zip(learned.items(), gradients, strict=True):
        assert gradient.abs().max() > 0, name
        expected = (before - rate * gradient).detach()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_the_memory_goes_to_the_features_it_is_shown() -> None:
    """Each centroid alone in its batches, the network still: M_j ends where v is."""
    memory = draw(CLASSES, DIM, seed=3).float().requires_grad_()
    v, y = draw(CLASSES, DIM, seed=4).float(), torch.arange(CLASSES)
    optimizer = torch.optim.SGD([memory], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        memory_pull(v, y, memory).backward()
        optimizer.step()
    torch.testing.assert_close(memory.detach(), v, atol=1e-3, rtol=1e-3)


def test_what_cannot_be_is_told() -> None:
    for bad in ({"hidden": 0}, {"epochs": 1.5}, {"step": 0}, {"backbone_lr": -1}, {"head_lr": math.nan}):
        with pytest.raises(LTBenchError, match=next(iter(bad))):
            build(**bad)
    for head in (nn.Sequential(nn.Linear(DIM, CLASSES)), CosineHead(DIM, CLASSES)):
        with pytest.raises(LTBenchError, match=f"from a linear stage-1 head, got {type(head).__name__}"):
            build().fit(stage(head=head))
    with pytest.raises(LTBenchError, match="OLTR's loss became nan in epoch 1"):
        build().fit(stage(bad=True))


def test_a_head_without_biases_is_taken() -> None:
    fitted = build().fit(stage(head=nn.Linear(DIM, CLASSES, bias=False)))
    assert fitted.notes["hallucinator"] == "stage 1's classifier"


def test_end_to_end(short, launch) -> None:
    options = {"stage1.epochs": 2, "method.classifier.epochs": 2}
    (_, record), *_ = launch(short("oltr", **options))
    assert record.label == "OLTR"
    assert record.method["notes"]["modulated_attention"] == "feature map 64x2x2"
    assert record.protocol["batch_norm"] == "train"
