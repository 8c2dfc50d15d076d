"""PaCo against its formula in plain loops; its queue and its momentum encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.data.batch import Batch
from lt_bench.engine.checkpoints import latest_checkpoint
from lt_bench.engine.data import build_data
from lt_bench.engine.loop import StageOneLoop
from lt_bench.engine.stage1 import StageOne, build_model
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import shot_groups
from lt_bench.models.stage_one import Numerics, StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task
from methods.paco import EMPTY, parametric_contrastive_loss

COUNTS = (500, 100, 40, 1)
CLASSES = len(COUNTS)
DIM = 6
WEIGHTS = {"alpha": 0.02, "beta": 1.0, "temperature": 0.05}


def task(counts: tuple[int, ...] = COUNTS) -> Task:
    values = torch.tensor(counts)
    names = tuple(str(j) for j in range(len(counts)))
    return Task("toy", names, values, "strict", shot_groups(values, "strict"))


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def build(**options):
    torch.manual_seed(0)
    return METHODS.build({"type": "paco", "task": task(), **options})


def log_pi() -> Tensor:
    return torch.tensor([math.log(n / sum(COUNTS)) for n in COUNTS], dtype=torch.float64)


def slow_loss(
    logits: list,
    queries: list,
    labels: list[int],
    keys: list,
    key_labels: list[int],
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> float:
    """Query by query, with π from the counts."""
    total = 0.0
    for i, y in enumerate(labels):
        centres = [z + math.log(n / sum(COUNTS)) for z, n in zip(logits[i], COUNTS, strict=True)]
        samples = [(v, label) for k, (v, label) in enumerate(zip(queries, labels, strict=True)) if k != i]
        samples += [(v, label) for v, label in zip(keys, key_labels, strict=True) if label >= 0]
        scores = [sum(a * b for a, b in zip(queries[i], v, strict=True)) / temperature for v, _ in samples]
        denominator = sum(math.exp(s) for s in [*centres, *scores])
        weighted, weight = beta * math.log(math.exp(centres[y]) / denominator), beta
        for score, (_, label) in zip(scores, samples, strict=True):
            if label == y:
                weighted += alpha * math.log(math.exp(score) / denominator)
                weight += alpha
        total -= weighted / weight
    return total / len(labels)


@pytest.mark.parametrize(
    "weights", [WEIGHTS, {"alpha": 0.5, "beta": 0.3, "temperature": 0.2}, {**WEIGHTS, "alpha": 0.0}]
)
@pytest.mark.parametrize("key_labels", [[0, 0, 1, 1, 2], [0, EMPTY, 3, EMPTY, 0], [EMPTY] * 5])
def test_loss_equals_the_formula(key_labels: list[int], weights: dict[str, float]) -> None:
    logits, labels = draw(3, CLASSES, seed=3), [0, 3, 0]
    queries, keys = F.normalize(draw(3, DIM)), F.normalize(draw(5, DIM, seed=1))
    found = parametric_contrastive_loss(
        logits, queries, torch.tensor(labels), keys, torch.tensor(key_labels), log_pi(), **weights
    )
    expected = slow_loss(logits.tolist(), queries.tolist(), labels, keys.tolist(), key_labels, **weights)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_gradients() -> None:
    labels, key_labels = torch.tensor([0, 3, 0]), torch.tensor([0, EMPTY, 3, 1])
    inputs = (draw(3, CLASSES).requires_grad_(), draw(3, DIM, seed=1).requires_grad_())
    keys = draw(4, DIM, seed=2)

    def loss(logits: Tensor, queries: Tensor) -> Tensor:
        return parametric_contrastive_loss(
            logits, queries, labels, keys, key_labels, log_pi(), alpha=0.3, beta=1.0, temperature=1.0
        )

    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("labels", [[2], [1, 1], [0, 1, 2, 3, 3, 3]])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e30])
def test_extremes_are_finite(labels: list[int], scale: float, dtype: torch.dtype) -> None:
    logits = (scale * draw(len(labels), CLASSES)).to(dtype).requires_grad_()
    queries = F.normalize(torch.ones(len(labels), DIM)).to(dtype).requires_grad_()
    for key_labels in ([EMPTY] * 3, [0, 0, 0], [EMPTY, 2, 3]):
        loss = parametric_contrastive_loss(
            logits,
            queries,
            torch.tensor(labels),
            F.normalize(torch.ones(3, DIM)).to(dtype),
            torch.tensor(key_labels),
            log_pi().float(),
            **WEIGHTS,
        )
        logits.grad = queries.grad = None
        loss.backward()
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all() and torch.isfinite(queries.grad).all()


def test_without_samples_it_is_balanced_softmax() -> None:
    logits, labels = draw(1, CLASSES), torch.tensor([3])
    query, nothing = F.normalize(draw(1, DIM)), torch.zeros(2, DIM, dtype=torch.float64)
    found = parametric_contrastive_loss(
        logits, query, labels, nothing, torch.full((2,), EMPTY), log_pi(), **WEIGHTS
    )
    terms = [n * math.exp(z) for n, z in zip(COUNTS, logits[0].tolist(), strict=True)]
    expected = -math.log(terms[3] / sum(terms))
    assert float(found) == pytest.approx(expected, rel=1e-9)
    method = build()
    assert float(method.criterion(logits, labels)) == pytest.approx(expected, rel=1e-6)


class Backbone(nn.Module):
    """Pixels, batch normalisation, a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm2d(1), nn.Linear(DIM, DIM)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.norm(images).flatten(1))


def model_of(**options) -> StageOneModel:
    method = build(**{"queue": 10, "out": 5, "momentum": 0.9, **options})
    model = StageOneModel(Backbone(), method.build_head(DIM), method, Numerics())
    method.attach(model)
    return model.train()


def batch_of(n: int, seed: int = 0) -> Batch:
    images = draw(n, 2, 1, 2, DIM // 2, seed=seed, dtype=torch.float32)
    labels = torch.randint(0, CLASSES, (n,), generator=torch.Generator().manual_seed(seed))
    return Batch(images, labels, torch.arange(n))


def step(model: StageOneModel, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    loss = model(batch, mode="loss")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def keys_of(model: StageOneModel, batch: Batch) -> Tensor:
    """What the momentum encoder as it stands makes of view 2."""
    method = model.objective
    return method.key_projection(method.key_encoder.backbone(batch.images[:, 1])).detach()


def test_the_loss_of_batches_and_the_queue() -> None:
    model = model_of()
    method, optimizer = model.objective, torch.optim.SGD(model.parameters(), lr=0.1)
    held: list[tuple[list[float], int]] = []
    for number, size in enumerate([4, 4, 3, 4, 1]):
        batch = batch_of(size, number)
        features = model.features(batch.images[:, 0])
        queries, logits = method.projection(features), model.head(features)
        before = held[-10:]
        found = step(model, optimizer, batch)
        keys = keys_of(model, batch)
        new = list(zip(keys.tolist(), batch.labels.tolist(), strict=True))
        contrast = new + before
        expected = slow_loss(
            logits.tolist(),
            queries.tolist(),
            batch.labels.tolist(),
            [v for v, _ in contrast],
            [y for _, y in contrast],
            **WEIGHTS,
        )
        assert found == pytest.approx(expected, rel=1e-4), "the queue holds the keys of earlier steps"
        held += new
        kept = held[-10:]
        assert int((method.queue_labels != EMPTY).sum()) == len(kept)
        assert int(method.pointer) == len(held) % 10
        order = [(len(held) - len(kept) + i) % 10 for i in range(len(kept))]
        assert method.queue_labels[order].tolist() == [y for _, y in kept]
        torch.testing.assert_close(method.queue[order], torch.tensor([v for v, _ in kept]))


def test_the_momentum_encoder_follows() -> None:
    model = model_of(momentum=0.9)
    method = model.objective
    with torch.no_grad():
        model.backbone.linear.weight.add_(1)  # weights that were drawn or loaded after the model was built
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
    pairs = [
        (method.key_encoder.backbone.linear.weight, model.backbone.linear.weight),
        (method.key_encoder.backbone.norm.bias, model.backbone.norm.bias),
        (method.key_projection.layers[0].weight, method.projection.layers[0].weight),
    ]
    expected: list[Tensor] = []
    for number in range(4):
        query = [q.detach().double().clone() for _, q in pairs]
        expected = [0.9 * e + 0.1 * q for e, q in zip(expected, query, strict=True)] if number else query
        step(model, optimizer, batch_of(4, number))
        for (key, q), wanted in zip(pairs, expected, strict=True):
            torch.testing.assert_close(key.detach().double(), wanted)
            assert not torch.equal(key, q), "the optimiser has moved the query since"
            assert key.grad is None and not key.requires_grad and q.grad is not None


def test_only_the_first_epoch_begins_with_a_copy() -> None:
    model = model_of(momentum=1.0)
    method, weight = model.objective, model.objective.key_encoder.backbone.linear.weight
    before = weight.clone()
    with torch.no_grad():
        model.backbone.linear.weight.add_(1)
    method.start_epoch(2, 5)
    model(batch_of(4), mode="loss")
    assert torch.equal(weight, before)
    method.start_epoch(1, 5)
    model(batch_of(4), mode="loss")
    assert torch.equal(weight, before + 1)


def test_keys_take_no_gradient_and_leave_the_query_s_statistics() -> None:
    model = model_of()
    batch, mean = batch_of(4), model.backbone.norm.running_mean.clone()
    alone = model.backbone.norm.momentum * batch.images[:, 0].mean()
    model(batch, mode="loss").backward()
    torch.testing.assert_close(model.backbone.norm.running_mean, 0.9 * mean + alone)
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert all("key_" not in name for name in trained)
    assert {"head.weight", "objective.projection.layers.0.weight", "backbone.linear.weight"} <= trained


def test_attached_once_with_copies_alone(short: Callable, tmp_path: Path) -> None:
    config = short("paco").config
    data = build_data(config["dataset"])
    stage = StageOne(tmp_path, "x", config, data, Task.of(data, "strict"), 0)
    model = build_model(stage)
    names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for _, p in model.named_parameters(remove_duplicate=False)})
    copies = [n for n in names if n.startswith(("objective.key_encoder", "objective.key_projection"))]
    assert len(copies) == len([n for n in names if n.startswith(("backbone.", "objective.projection"))])
    parameters = dict(model.named_parameters())
    assert [n for n in names if not parameters[n].requires_grad] == copies
    for name in copies:
        origin = name.replace("objective.key_encoder.", "").replace("key_projection", "projection")
        assert torch.equal(parameters[name], parameters[origin])
        assert parameters[name].data_ptr() != parameters[origin].data_ptr()
    again = build_model(stage)
    again.load_state_dict(model.state_dict())


def test_defaults_and_arguments() -> None:
    method = build()
    assert (method.alpha, method.beta, method.temperature, method.momentum) == (0.02, 1.0, 0.05, 0.999)
    assert method.queue.shape == (1024, 64) and method.capture == "epoch_end"
    torch.testing.assert_close(method.prior.double(), log_pi())
    method.build_head(DIM)
    assert method.projection.layers[0].out_features == DIM
    method = build(hidden=9)
    method.build_head(DIM)
    assert method.projection.layers[0].out_features == 9


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alpha": -1}, "alpha is a finite number from 0"),
        ({"beta": 0}, "beta and temperature are above 0"),
        ({"temperature": 0.0}, "beta and temperature are above 0"),
        ({"momentum": 1.5}, "momentum is in 0 to 1"),
        ({"momentum": math.inf}, "momentum is a finite number"),
        ({"queue": 0}, "queue is a whole number from 1"),
        ({"queue": None}, "queue is a whole number from 1"),
        ({"hidden": 0}, "hidden is a whole number from 1"),
        ({"out": 0}, "out is a whole number from 1"),
        ({"task": task((3, 0))}, "at least one training image"),
    ],
)
def test_refuses(options: dict[str, object], told: str) -> None:
    with pytest.raises(LTBenchError, match=told):
        build(**options)


def test_refuses_images_without_two_views_and_a_batch_beyond_the_queue() -> None:
    model = model_of()
    for shape in ((2, 1, 2, 3), (2, 3, 1, 2, 3)):
        with pytest.raises(LTBenchError, match="paco trains on 2 views.*batch_views"):
            model(batch_of(2)._replace(images=torch.zeros(shape)), mode="loss")
    with pytest.raises(LTBenchError, match="queue of 10 is smaller than a batch of 11"):
        model(batch_of(11), mode="loss")


def test_resumes_bit_for_bit(
    short: Callable, launch: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End to end: a run that was killed in its second epoch and one that was not end alike."""
    experiment = short("paco", **{"stage1.epochs": 3})
    (_, whole), *_ = launch(experiment, folder="whole")
    assert whole.label == "PaCo"

    class Killed(Exception):
        pass

    original = StageOneLoop._read

    def read(self, loss, epoch):
        if epoch == 2:
            raise Killed
        return original(self, loss, epoch)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StageOneLoop, "_read", read)
        launch(experiment, folder="halves")
    (_, halves), *_ = launch(experiment, folder="halves", unfinished="resume")
    states = []
    for folder in ("whole", "halves"):
        (stage,) = (tmp_path / folder / "work" / "stage1").iterdir()
        states.append(torch.load(latest_checkpoint(stage), weights_only=True)["state_dict"])
    one, two = states
    assert one.keys() == two.keys()
    assert {"objective.queue", "objective.queue_labels", "objective.pointer"} <= one.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert whole.scores == halves.scores
    moved = one["objective.key_encoder.backbone.layers.0.weight"] != one["backbone.layers.0.weight"]
    assert moved.any() and (one["objective.queue_labels"] != EMPTY).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_does_not_wait_for_the_device() -> None:
    model = model_of().cuda()
    batches = [Batch(*(part.cuda() for part in batch_of(4, seed)[:3])) for seed in range(3)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, optimizer, batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            loss = model(batch, mode="loss")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
