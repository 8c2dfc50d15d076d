"""FSLwF: its classifier, generator, episodes and training against slow float64 loops."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.method import Features
from lt_bench.models.heads import linear_head
from lt_bench.models.resnet_cifar import CifarResNet
from lt_bench.models.small_convnet import SmallConvNet
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.fslwf import (
    EpisodeSampler,
    EpisodeShape,
    FewShotClassifier,
    SharedBiasCosineHead,
    WeightGenerator,
    dropped,
    episode_shape,
    sample_distinct,
    split_classes,
)

DIM = 6
COUNTS = (120, 60, 30, 40, 9, 3)
CLASSES = len(COUNTS)


def task(counts: tuple[int, ...] = COUNTS) -> Task:
    tensor = torch.tensor(counts)
    names = tuple(str(j) for j in range(len(counts)))
    return Task("toy", names, tensor, "strict", shot_groups(tensor, "strict"))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(kind: str = "fslwf_generator", counts: tuple[int, ...] = COUNTS, **options):
    return METHODS.build({"type": kind, "task": task(counts), **options})


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row: list[float]) -> list[float]:
    norm = math.sqrt(dot(row, row))
    return [v / norm for v in row]


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def mean(rows: list[list[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def oracle_weight(
    generator: WeightGenerator, exemplars: list[list[float]], base: list[list[float]], keys: list[list[float]]
) -> list[float]:
    attended = []
    for row in exemplars:
        query = [
            dot(weights, unit(row)) + bias
            for weights, bias in zip(generator.query.tolist(), generator.query_bias.tolist(), strict=True)
        ]
        coefficients = softmax([float(generator.gamma) * dot(unit(query), unit(key)) for key in keys])
        attended.append(
            [sum(c * unit(w)[k] for c, w in zip(coefficients, base, strict=True)) for k in range(DIM)]
        )
    average, attention = mean([unit(row) for row in exemplars]), mean(attended)
    by_average, by_attention = generator.average_scale.tolist(), generator.attention_scale.tolist()
    return [by_average[k] * average[k] + by_attention[k] * attention[k] for k in range(DIM)]


def random_generator(num_base: int) -> WeightGenerator:
    module = WeightGenerator(DIM, num_base, seed=3, gamma=4.0).double()
    with torch.no_grad():
        module.average_scale.copy_(1 + 0.3 * draw(DIM, seed=20))
        module.attention_scale.copy_(1 + 0.3 * draw(DIM, seed=21))
        module.query.add_(0.3 * draw(DIM, DIM, seed=22))
        module.query_bias.copy_(0.1 * draw(DIM, seed=23))
    return module.requires_grad_(False)


def test_stage_one_is_a_cosine_classifier_with_one_scale_and_one_bias() -> None:
    method = build("fslwf")
    head = method.build_head(DIM).double()
    assert float(head.scale.detach()) == 10 and float(head.bias.detach()) == 0
    with torch.no_grad():
        head.scale.fill_(7.0)
        head.bias.fill_(0.25)
    z, w = draw(3, DIM, seed=4), head.weight.detach().tolist()
    found = head(z).detach()
    for i, row in enumerate(z.tolist()):
        for j in range(CLASSES):
            assert float(found[i, j]) == pytest.approx(7 * (dot(unit(row), unit(w[j])) + 0.25), rel=1e-12)
    y = torch.tensor([0, 5, 2])
    expected = sum(
        math.log(sum(math.exp(float(v)) for v in found[i])) - float(found[i, int(y[i])]) for i in range(3)
    )
    assert float(method.criterion(found, y)) == pytest.approx(expected / 3)
    assert torch.autograd.gradcheck(lambda x: method.criterion(head(x), y), (z.requires_grad_(),))
    head(z).sum().backward()
    assert head.scale.grad is not None and head.bias.grad is not None
    with pytest.raises(LTBenchError, match="scale is a number above 0"):
        build("fslwf", scale=0)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_features_stay_finite(scale: float, dtype: torch.dtype) -> None:
    head = SharedBiasCosineHead(DIM, CLASSES)
    z = (torch.ones(2, DIM, dtype=dtype) * scale).requires_grad_()
    loss = F.cross_entropy(head(z), torch.tensor([1, 1]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all() and torch.isfinite(head.weight.grad).all()
    model = FewShotClassifier(torch.zeros(4, DIM), 10.0, 0.0, seed=1)
    same = torch.ones(1, 2, 1, DIM) * scale
    model.episode_scores(torch.arange(4).unsqueeze(0), same, same[:, 0]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_generator_formula_with_padding() -> None:
    module, exemplars = random_generator(4), draw(2, 3, DIM, seed=5)
    base, keys = draw(4, DIM, seed=6), module.keys
    share = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]], dtype=torch.float64)
    found = module(exemplars, share, base, keys)
    for c, size in enumerate((3, 2)):
        expected = oracle_weight(module, exemplars[c, :size].tolist(), base.tolist(), keys.tolist())
        assert found[c].tolist() == pytest.approx(expected, rel=1e-10)
    inputs = (exemplars.requires_grad_(), share, base.requires_grad_(), keys.clone().requires_grad_())
    assert torch.autograd.gradcheck(module, inputs)


def test_generator_starts_near_the_identity() -> None:
    module = WeightGenerator(DIM, 4, seed=3)
    assert torch.equal(module.average_scale, torch.ones(DIM))
    assert torch.equal(module.attention_scale, torch.ones(DIM))
    assert 0 < (module.query - torch.eye(DIM)).abs().max() < 0.01 and not module.query_bias.any()
    assert float(module.gamma.detach()) == 30 and all(p.requires_grad for p in module.parameters())


def test_episode_scores_formula() -> None:
    base = draw(5, DIM, seed=7)
    model = FewShotClassifier(base, 6.0, 0.5, seed=1, gamma=4.0).double().requires_grad_(False)
    model.generator = random_generator(5)
    classes = torch.tensor([[3, 1, 0, 4, 2], [0, 1, 2, 3, 4]])
    exemplars, queries = draw(2, 2, 3, DIM, seed=8), draw(2, 4, DIM, seed=9)
    found = model.episode_scores(classes, exemplars, queries)
    assert found.shape == (2, 4, 5)
    for p in range(2):
        kept = classes[p, 2:].tolist()
        weights = [base[j].tolist() for j in kept]
        keys = [model.generator.keys[j].tolist() for j in kept]
        made = [oracle_weight(model.generator, exemplars[p, c].tolist(), weights, keys) for c in range(2)]
        for i in range(4):
            for place, weight in enumerate(made + weights):
                expected = 6 * (dot(unit(queries[p, i].tolist()), unit(weight)) + 0.5)
                assert float(found[p, i, place]) == pytest.approx(expected, rel=1e-9)


def test_final_weights_come_from_all_features_of_a_class() -> None:
    model = FewShotClassifier(draw(3, DIM, seed=7), 6.0, 0.5, seed=1).double().requires_grad_(False)
    model.generator = random_generator(3)
    y = torch.tensor([4, 0, 3, 4, 1, 3, 4, 2, 0])
    z = draw(9, DIM, seed=10)
    found = model.weights_of(z, y, torch.tensor([3, 4]))
    for place, j in enumerate((3, 4)):
        own = [z[i].tolist() for i in range(9) if int(y[i]) == j]
        expected = oracle_weight(model.generator, own, model.base.tolist(), model.generator.keys.tolist())
        assert found[place].tolist() == pytest.approx(expected, rel=1e-9)


def test_distinct_draws_are_uniform_in_every_place() -> None:
    sizes = torch.tensor([3, 5]).expand(6000, 2)
    drawn = sample_distinct(sizes, 3, seeded())
    assert drawn.shape == (6000, 2, 3) and drawn.min() == 0
    for column, size in ((0, 3), (1, 5)):
        rows = [tuple(row) for row in drawn[:, column].tolist()]
        assert all(len(set(row)) == 3 and max(row) < size for row in rows)
        orders = Counter(rows)
        kinds = math.perm(size, 3)
        assert len(orders) == kinds
        # Six standard deviations of a binomial count.
        expected = 6000 / kinds
        assert all(abs(found - expected) < 6 * math.sqrt(expected) for found in orders.values())


def test_episodes_are_made_of_the_right_images() -> None:
    y = torch.tensor([0, 2, 1, 1, 3, 0, 1, 2, 2, 0, 3, 1, 0, 2, 4, 3, 3])
    base = torch.tensor([0, 1, 3])
    drawn = EpisodeSampler(y, base, EpisodeShape(2, 1, 2, 5)).draw(300, seeded(1))
    assert drawn.exemplars.shape == (300, 2, 1) and drawn.novel_queries.shape == (300, 2, 2)
    assert drawn.base_queries.shape == (300, 5) and drawn.query_labels().shape == (300, 9)
    made_novel, shown = Counter(), Counter()
    for e in range(300):
        classes = [int(base[c]) for c in drawn.classes[e]]
        assert sorted(classes) == [0, 1, 3]
        made_novel.update(classes[:2])
        for slot in range(2):
            rows = drawn.exemplars[e, slot].tolist() + drawn.novel_queries[e, slot].tolist()
            assert len(set(rows)) == 3, "a query is no exemplar"
            assert {int(y[r]) for r in rows} == {classes[slot]}
        queries = [*drawn.novel_queries[e].flatten().tolist(), *drawn.base_queries[e].tolist()]
        for row, place in zip(queries, drawn.query_labels()[e].tolist(), strict=True):
            assert int(y[row]) == classes[place]
        assert all(slot >= 2 for slot in drawn.base_slots[e].tolist())
        shown.update(drawn.base_queries[e].tolist())
    assert set(made_novel) == {0, 1, 3} and min(made_novel.values()) > 150
    assert set(shown) == {i for i, label in enumerate(y.tolist()) if label in (0, 1, 3)}
    part = drawn[3:5]
    assert torch.equal(part.query_labels(), drawn.query_labels()[3:5])


def test_dropout_keeps_the_mean() -> None:
    out = dropped(torch.ones(200, 200), 0.25, seeded())
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(out.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(dropped(torch.ones(2, 3), 0.0, seeded()), torch.ones(2, 3))


@pytest.mark.parametrize(
    ("base", "expected"),
    [(389, (250, 1500, 750)), (864, (250, 1500, 750)), (70, (44, 264, 132)), (6, (3, 18, 9)), (2, (1, 6, 3))],
)
def test_episodes_scale_with_the_base_classes(base: int, expected: tuple[int, int, int]) -> None:
    shape = episode_shape(torch.full((base,), 30), 5, None, None, None)
    assert (shape.fake_novel, shape.fake_novel * shape.queries, shape.base_queries) == expected


def test_classes_split_by_training_counts() -> None:
    base, novel = split_classes(task(), ["few"])
    assert base.tolist() == [0, 1, 2, 3] and novel.tolist() == [4, 5]
    base, novel = split_classes(task(), ["medium", "few"][:1])
    assert base.tolist() == [0, 4, 5] and novel.tolist() == [1, 2, 3]


def test_what_cannot_be_is_told_before_training() -> None:
    with pytest.raises(LTBenchError, match="few-shot classes, and toy has none under the convention"):
        build(counts=(100, 50, 30))
    with pytest.raises(LTBenchError, match="needs 2 base classes or more.* toy has 1 that are not few-shot"):
        build(counts=(100, 5, 3))
    with pytest.raises(LTBenchError, match="5 exemplars and 6 queries.*the smallest has 3 training images"):
        build(novel_groups=["medium"])
    with pytest.raises(LTBenchError, match="fake_novel is below the number of base classes, 4; got 4"):
        build(fake_novel=4)
    with pytest.raises(LTBenchError, match="multiple of fake_novel, 2; got 5"):
        build(fake_novel=2, novel_queries=5)
    with pytest.raises(LTBenchError, match="list of many, medium, few; got 'few'"):
        build(novel_groups="few")
    for bad in (["rare"], [["few"]], [], 5):
        with pytest.raises(LTBenchError, match="list of many, medium, few"):
            build(novel_groups=bad)
    for bad in ({"exemplars": 0}, {"episodes": 1.5}, {"dropout": 1}, {"momentum": 0}, {"lr": -1}):
        with pytest.raises(LTBenchError, match=next(iter(bad))):
            build(**bad)


def data(bad: bool = False) -> Features:
    y = torch.arange(CLASSES).repeat_interleave(torch.tensor(COUNTS))
    y = y[torch.randperm(len(y), generator=seeded(5))]
    centres = 4 * torch.eye(CLASSES, DIM, dtype=torch.float64)
    z = (centres[y] + draw(len(y), DIM, seed=7)).float()
    if bad:
        z[:] = math.nan
    return Features(z, y)


def stage(head: torch.nn.Module | None = None, bad: bool = False) -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(
        task=task(),
        feature_dim=DIM,
        head=SharedBiasCosineHead(DIM, CLASSES) if head is None else head,
        seed=7,
        epochs=3,
        device=torch.device("cpu"),
        features={"train": data(bad)}.get,
    )


def test_fit_learns_and_generates() -> None:
    given = stage()
    before = {k: v.clone() for k, v in given.head.state_dict().items()}
    # Each class has one dimension of its own, so that dropout would take all there is to learn.
    fitted = build(episodes=150, dropout=0.0).fit(given)
    assert all(torch.equal(given.head.state_dict()[k], before[k]) for k in before), "stage 1's head stays"
    assert fitted.selected_on == "none" and fitted.model is None and not fitted.head.training
    assert fitted.notes["novel_classes"] == [4, 5] and fitted.notes["base_classes"] == 4
    assert fitted.notes["episode"] == {
        "fake_novel": 2,
        "exemplars": 5,
        "novel_queries": 12,
        "base_queries": 6,
    }
    train = data()
    right = fitted.head(train.features).argmax(1) == train.labels
    untrained = given.head(train.features).argmax(1) == train.labels
    for j in range(CLASSES):
        assert float(right[train.labels == j].float().mean()) > 0.6
    assert float(right.float().mean()) > float(untrained.float().mean()) + 0.2


def test_fit_is_a_function_of_the_seed() -> None:
    one, two = (build(episodes=20).fit(stage()) for _ in range(2))
    assert torch.equal(one.head.weight, two.head.weight)
    other = stage()
    other.seed = 8
    assert not torch.equal(build(episodes=20).fit(other).head.weight, one.head.weight)


def test_a_step_may_hold_several_episodes_and_the_last_fewer() -> None:
    fitted = build(episodes=7, episodes_per_step=3, epochs=1).fit(stage())
    assert torch.isfinite(fitted.head.weight).all()


def test_a_linear_stage_one_gives_rows_and_the_released_scale() -> None:
    fitted = build(episodes=1, epochs=1, lr=0.0).fit(stage(linear_head(DIM, CLASSES, 0)))
    assert fitted.notes["scale"] == 10
    rows = linear_head(DIM, CLASSES, 0).weight.detach()
    assert torch.equal(fitted.head.weight[:4], rows[:4]) and not torch.equal(fitted.head.weight[4:], rows[4:])
    with pytest.raises(LTBenchError, match="one weight row a class"):
        build(episodes=1).fit(stage(torch.nn.Sequential()))
    with pytest.raises(LTBenchError, match="loss became nan in its epoch 1"):
        build(episodes=2, epochs=1).fit(stage(bad=True))


def test_rate_falls_after_two_thirds() -> None:
    assert [build().rate(e) for e in range(1, 7)] == pytest.approx([0.01] * 4 + [0.001] * 2)
    assert [build(epochs=2).rate(e) for e in (1, 2)] == pytest.approx([0.01, 0.001])
    assert build(epochs=1).rate(1) == 0.01


def test_its_sgd_is_the_released_one(sgd_steps: list[list[dict]]) -> None:
    """The fitted classifier alone would not tell: it is right on well parted features at any rate."""
    build(episodes=2, epochs=3).fit(stage())
    seen = [group for groups in sgd_steps for group in groups]
    assert [group["lr"] for group in seen] == pytest.approx([0.01] * 4 + [0.001] * 2)
    for group in seen:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
    assert (build().episodes, build().epochs, build().dropout) == (4000, 6, 0.0)


def test_scale_and_bias_go_on_from_stage_1_and_into_the_classifier() -> None:
    def fitted(lr: float) -> SharedBiasCosineHead:
        head = SharedBiasCosineHead(DIM, CLASSES, 7.0)
        head.bias.data.fill_(0.25)
        return build(episodes=2, epochs=1, lr=lr).fit(stage(head))

    still, learned = fitted(lr=0.0).head, fitted(lr=0.1)
    assert (float(still.scale), float(still.bias)) == (7.0, 0.25)
    scale, bias = float(learned.head.scale), float(learned.head.bias)
    assert scale != 7.0 and scale == pytest.approx(learned.notes["scale"], abs=1e-6)
    assert bias != 0.25


@pytest.mark.parametrize("cls", [SmallConvNet, CifarResNet])
def test_last_relu_only_takes_the_last_activation(cls: type) -> None:
    options = {"in_channels": 1, **({"depth": 8} if cls is CifarResNet else {})}
    torch.manual_seed(0)
    plain = cls(**options).eval()
    torch.manual_seed(0)
    signed = cls(**options, last_relu=False).eval()
    assert list(plain.state_dict()) == list(signed.state_dict())
    assert all(torch.equal(plain.state_dict()[k], signed.state_dict()[k]) for k in plain.state_dict())
    images = draw(2, 1, 8, 8).float()
    out = signed(images)
    assert out.min() < 0
    assert torch.equal(F.relu(out), plain(images))


def test_end_to_end(short, launch) -> None:
    # At the shortened runs' imbalance factor of 5 no class would be few-shot.
    options = {
        "stage1.epochs": 2,
        "dataset.imbalance_factor": 20,
        "method.classifier.episodes": 5,
        "method.classifier.epochs": 2,
    }
    (_, record), *_ = launch(short("fslwf", **options))
    assert record.label == "FSLwF"
    assert record.method["notes"]["novel_classes"] == [6, 7, 8, 9]
    with pytest.raises(LTBenchError, match="digits_lt has none under the convention 'strict'"):
        launch(short("fslwf"), folder="none")
