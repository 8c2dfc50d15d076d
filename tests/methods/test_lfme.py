"""LFME against its formulas, slowly; its experts are trained once and taught from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import GROUPS
from lt_bench.leaderboard.terminal import stage1_times
from lt_bench.registry import METHODS
from lt_bench.run.jobs import Settings, jobs_of
from lt_bench.task import Task
from methods.lfme import group_accuracy, group_distillation, group_weight, instance_weights

COUNTS = torch.tensor([300, 200, 60, 30, 5, 2])


def task(counts: torch.Tensor = COUNTS) -> Task:
    groups = torch.tensor([0 if n > 100 else 1 if n >= 20 else 2 for n in counts.tolist()], dtype=torch.int8)
    return Task("toy", tuple(map(str, range(len(counts)))), counts, "strict", groups)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distillation_formula() -> None:
    student, expert = 3 * draw(5, 6), 3 * draw(5, 6, seed=1)
    classes, t = [2, 3], 2.0
    total = 0.0
    for i in range(5):
        p = [math.exp(float(student[i, c]) / t) for c in classes]
        q = [math.exp(float(expert[i, c]) / t) for c in classes]
        total += sum(b / sum(q) * math.log((b / sum(q)) / (a / sum(p))) for a, b in zip(p, q, strict=True))
    found = group_distillation(student, expert, torch.tensor(classes), t)
    assert float(found) == pytest.approx(total / 5, rel=1e-12)


def test_distillation_gradient_and_extremes() -> None:
    expert, classes = draw(4, 5, seed=2), torch.tensor([1, 4])
    assert torch.autograd.gradcheck(
        lambda z: group_distillation(z, expert, classes, 2.0), draw(4, 5).requires_grad_()
    )
    for logits in (draw(1, 5) * 1e4, torch.zeros(1, 5), draw(1, 5).bfloat16()):
        z = logits.clone().requires_grad_()
        loss = group_distillation(z, -logits, classes, 2.0)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(z.grad).all()
    one = group_distillation(draw(4, 5), expert, torch.tensor([3]), 2.0)
    assert float(one) == 0  # among one class nothing is left to teach


@pytest.mark.parametrize(
    ("student", "expert", "weight"),
    [
        (0.0, 0.8, 1),
        (0.23, 0.8, 1),
        (0.24, 0.8, 1),
        (0.5, 0.8, 0.3 / 0.56),
        (0.8, 0.8, 0),
        (0.9, 0.8, 0),
        (0.0, 0.0, 0),
    ],
)
def test_group_weight(student: float, expert: float, weight: float) -> None:
    found = group_weight(torch.tensor([student]), torch.tensor([expert]))
    assert float(found) == pytest.approx(weight, abs=1e-6)


def test_instance_weights() -> None:
    confidence = torch.tensor([0.2, 0.9, 0.5, 0.7, 0.7, 0.1], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    least = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    expected = [0.1, 1.0, 0.1 + 0.9 * (0.3 / 0.7), 1.0, 1.0, 1.0]
    assert instance_weights(confidence, labels, least).tolist() == pytest.approx(expected)


def test_group_accuracy() -> None:
    groups = torch.tensor([0, 0, 1, 2])
    labels, predictions = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 3, 2])
    assert group_accuracy(predictions, labels, groups, 3).tolist() == pytest.approx([2 / 3, 0.5, 0])


class Toy:
    """A model whose features are the images."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight


def taught() -> tuple[torch.nn.Module, Toy, Batch, Batch]:
    counts = torch.tensor([4, 3, 2, 1])
    small = Task("toy", tuple("abcd"), counts, "strict", torch.tensor([2, 2, 2, 2], dtype=torch.int8))
    method = METHODS.build({"type": "lfme", "task": small})
    labels = torch.repeat_interleave(torch.arange(4), counts)
    train = Batch(draw(10, 3, seed=4).float(), labels, torch.arange(10))
    expert = Toy(draw(3, 4, seed=6).float())
    images = draw(8, 3, seed=5).float()
    # The expert is right on six of eight.
    answers = expert.head(images).argmax(1)
    answers[6:] = (answers[6:] + 1) % 4
    val = Batch(images, answers, torch.arange(8))
    method.learn_from({"the expert": expert}, {"train": [train], "val": [val]})
    return method, expert, train, val


def test_student_loss_and_schedule() -> None:
    """All classes are few-shot here: one expert, whose group is everything."""
    method, expert, train, _ = taught()
    student = Toy(draw(3, 4, seed=7).float())
    batch = Batch(train.images[[7, 2, 9]], train.labels[[7, 2, 9]], train.indices[[7, 2, 9]])
    for epoch in (1, 2, 4, 8):
        method.start_epoch(epoch, 8)
        expected = 0.0
        for i in (7, 2, 9):
            y = int(train.labels[i])
            # In the rarest group the least weight is 1: no image of it waits, whatever the pace.
            v = 1.0
            z, t = student.head(train.images[i]).double(), 2.0
            p = F.softmax(z / t, 0)
            e = F.softmax(expert.head(train.images[i]).double() / t, 0)
            kl = sum(float(e[c]) * math.log(float(e[c]) / float(p[c])) for c in range(4))
            expected += -v * math.log(float(F.softmax(z, 0)[y])) + kl
        assert float(method(student, batch)) == pytest.approx(expected / 3, rel=1e-5)


def test_paced_loss_of_two_groups() -> None:
    counts, groups = torch.tensor([120, 110, 4, 2]), [[0, 1], [2, 3]]
    method = METHODS.build({"type": "lfme", "task": task(counts)})
    labels = torch.repeat_interleave(torch.arange(4), counts)
    images = draw(236, 3, seed=4).float()
    experts = [Toy(draw(3, 4, seed=6).float()), Toy(draw(3, 4, seed=8).float())]
    # Out of order, and given once: images are found by their indices.
    shuffled = torch.randperm(236, generator=torch.Generator().manual_seed(1))
    once = iter([Batch(images[part], labels[part], part) for part in shuffled.split(100)])
    val = Batch(images, labels, torch.arange(236))
    method.learn_from(dict(zip("mf", experts, strict=True)), {"train": once, "val": [val]})

    def own_confidence(i: int) -> float:
        group = int(labels[i]) // 2
        logits = experts[group].head(images[i]).double()[groups[group]]
        return float(F.softmax(logits, 0)[int(labels[i]) % 2])

    floor = [3 / 115, 1.0]
    first = []
    rows = [0, 119, 120, 230, 234, 235]
    for i in rows:
        alike = [own_confidence(k) for k in range(236) if labels[k] == labels[i]]
        low = floor[int(labels[i]) // 2]
        share = (own_confidence(i) - min(alike)) / (max(alike) - min(alike))
        first.append(low + (1 - low) * share)
    assert method.instance[rows].tolist() == pytest.approx(first, rel=1e-4)
    assert min(first) < 0.9, "some image waits"
    student = Toy(draw(3, 4, seed=7).float())
    batch = Batch(images[rows], labels[rows], torch.tensor(rows))
    for epoch, pace in ((1, 0.25), (4, 1.0)):
        method.start_epoch(epoch, 8)
        expected = 0.0
        for v, i in zip(first, rows, strict=True):
            z = student.head(images[i]).double()
            expected -= (v + (1 - v) * pace) * math.log(float(F.softmax(z, 0)[int(labels[i])]))
            for group, expert in zip(groups, experts, strict=True):
                p = F.softmax(z[group] / 2, 0)
                q = F.softmax(expert.head(images[i]).double()[group] / 2, 0)
                expected += sum(float(b) * math.log(float(b) / float(a)) for a, b in zip(p, q, strict=True))
        assert float(method(student, batch)) == pytest.approx(expected / len(rows), rel=1e-5)


def test_group_weights_follow_validation() -> None:
    method, expert, _, val = taught()
    accuracy = float((expert.head(val.images).argmax(1) == val.labels).float().mean())
    method.end_epoch(expert, [val])
    # The student is as good as its expert.
    assert method.weights.tolist() == [0, 0, 0]
    wrong = Toy(torch.zeros(3, 4))
    method.end_epoch(wrong, [val])
    always_first = float((val.labels == 0).float().mean())
    expected = (
        1.0 if always_first < 0.3 * accuracy else max(0.0, (accuracy - always_first) / (0.7 * accuracy))
    )
    assert float(method.weights[2]) == pytest.approx(min(1.0, expected), abs=1e-6)


def test_a_distillation_is_weighed_by_its_own_group() -> None:
    """All classes are few-shot here; the other groups' weights count for nothing."""
    method, expert, train, _ = taught()
    student = Toy(draw(3, 4, seed=7).float())

    def loss(weight: float) -> float:
        method.weights.copy_(torch.tensor([9.0, 9.0, weight]))
        return float(method(student, train))

    logits = student.head(train.images), expert.head(train.images)
    divergence = float(group_distillation(*logits, torch.arange(4), 2.0))
    assert divergence > 0.01
    assert loss(0.25) - loss(0.0) == pytest.approx(0.25 * divergence, rel=1e-3)


def test_an_expert_is_measured_among_its_own_classes() -> None:
    """Among all classes each expert here is wrong on every image, among its own it is always right."""
    counts = torch.tensor([120, 110, 4, 2])
    of_class = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, -1.0, 1.0]])
    labels = torch.repeat_interleave(torch.arange(4), counts)
    batch = Batch(of_class[labels], labels, torch.arange(236))
    rows = [[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]
    many = Toy(torch.tensor([*rows, [0.0, 0.0, 9.0, 9.0]]))
    few = Toy(torch.tensor([*rows, [9.0, 9.0, 0.0, 0.0]]))
    method = METHODS.build({"type": "lfme", "task": task(counts)})
    method.learn_from({"many": many, "few": few}, {"train": [batch], "val": [batch]})
    # There is no medium-shot class.
    assert method._expert_accuracy.tolist() == [1, 0, 1]


def test_expert_learns_among_its_own_classes() -> None:
    method = METHODS.build({"type": "lfme_expert", "task": task(), "classes": [3, 2]})
    logits, labels = draw(3, 6), torch.tensor([2, 3, 3])
    expected = 0.0
    for i, y in enumerate(labels.tolist()):
        among = [math.exp(float(logits[i, c])) for c in (2, 3)]
        expected -= math.log(math.exp(float(logits[i, y])) / sum(among))
    assert float(method.criterion(logits, labels)) == pytest.approx(expected / 3)
    assert method.sampler == {"type": "of_classes", "classes": [3, 2]}


def test_teachers_cover_the_groups_that_exist() -> None:
    config = {"stage1": {"epochs": 90, "batch_size": 256}}
    method = METHODS.build({"type": "lfme", "task": task()})
    changes = list(method.teachers(config).values())
    assert [c["method.representation"]["classes"] for c in changes] == [[0, 1], [2, 3], [4, 5]]
    assert [c["stage1.batch_size"] for c in changes] == [128, 64, 32]
    assert {c["stage1.epochs"] for c in changes} == {120}
    no_few = METHODS.build({"type": "lfme", "task": task(COUNTS[:4])})
    assert len(no_few.teachers(config)) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0}, "above 0"),
        ({"low": 1.0}, "below 1"),
        ({"expert_epochs": 0}, "from 1"),
        ({"convention": "mine"}, "mine"),
    ],
)
def test_bad_arguments(options: dict, sentence: str) -> None:
    with pytest.raises(LTBenchError, match=sentence):
        METHODS.build({"type": "lfme", "task": task(), **options})
    with pytest.raises(LTBenchError, match="lacks"):
        METHODS.build({"type": "lfme", "task": task()}).check(splits={"train", "test"}, epochs=3)


def test_experts_are_trained_once_and_shared(short: Callable, launch: Callable, tmp_path) -> None:
    options = {"stage1.epochs": 2, "dataset.imbalance_factor": 20}
    first = launch(short("lfme", **options))[0][1]
    assert first.scores.overall > 0
    stages = sorted(tmp_path.glob("here/work/stage1/*/stage1.json"))
    assert len(stages) == 4  # three experts and the student
    said = {path.parent.name: json.loads(path.read_text()) for path in stages}
    experts = [said[identity] for identity in said if identity != first.stage1["identity"]]
    taught_by = first.stage1["teachers"]
    names = {f"the expert of {group}-shot classes" for group in GROUPS}
    assert {teacher["name"] for teacher in taught_by.values()} == names
    for expert in experts:
        assert expert["seconds"] > 0 and expert["teachers"] == {}
        assert taught_by[expert["identity"]]["seconds"] == expert["seconds"]
        assert taught_by[expert["identity"]]["trained_by"] == expert["trained_by"]
    (shown,) = stage1_times([first]).values()
    assert "the expert of few-shot classes" in shown.caption
    before = [path.stat().st_mtime_ns for path in stages]
    launch(short("lfme", **{**options, "method.representation.temperature": 3.0}), replace=True)
    assert len(list(tmp_path.glob("here/work/stage1/*/stage1.json"))) == 5
    assert [path.stat().st_mtime_ns for path in stages] == before


def test_a_damaged_expert_is_mended(short: Callable, launch: Callable, tmp_path) -> None:
    experiment = short("lfme", **{"stage1.epochs": 2, "dataset.imbalance_factor": 20})
    whole = launch(experiment)[0][1]
    expert = next(p.parent for p in tmp_path.glob("here/work/stage1/*/epoch_3.pth"))
    (student,) = (f for f in tmp_path.glob("here/work/stage1/*") if not (f / "epoch_3.pth").exists())
    (tmp_path / "here/records/digits_lt/lfme/seed_0.json").unlink()
    (expert / "epoch_3.pth").unlink()
    (student / "stage1.json").unlink()
    for saved in student.glob("epoch_*.pth"):
        saved.unlink()
    with pytest.raises(LTBenchError, match="epoch_3.pth is missing"):
        launch(experiment)
    assert launch(experiment, unfinished="restart")[0][1].scores == whole.scores


def test_validation_decides_its_weights_and_its_identity(short: Callable, launch: Callable, tmp_path) -> None:
    assert METHODS.get("lfme").learns_from_validation and not METHODS.get("plain").learns_from_validation
    found = {}
    for stem in ("lfme", "plain"):
        for options in ({}, {"dataset.val_per_class": 5}, {"test_transforms.0.mean": [0.0]}):
            experiment = short(stem, **options)
            (job,) = jobs_of([experiment], [0], Settings(tmp_path, tmp_path))
            found.setdefault(stem, set()).add(job.stage.identity)
    assert len(found["lfme"]) == 3 and len(found["plain"]) == 1
