"""FSLwF (Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018): a cosine
classifier, and a generator that makes the weights of classes with few images out of their features.

Stage 1 (``fslwf``, the paper's cosine-similarity based recognition model): cross-entropy on

    score_j = s · (cos(z, w_j) + b)

with a learnable scale s from 10 and one learnable bias b for all classes from 0.

Stage 2 (``fslwf_generator``, the paper's attention-based weight generator and its second training stage)
on stored features. Of the classes with many images, the base classes, an episode makes some
*fake-novel*: each shows a few exemplars, and the weight that takes the place of its own is

    w' = φ_avg ⊙ mean_i z̄_i + φ_att ⊙ mean_i Σ_b softmax_b(γ · cos(φ_q z̄_i, k_b)) · w̄_b

where z̄ and w̄ are L2-normalised, b runs over the base classes that the episode leaves as they are, the
diagonal φ_avg and φ_att start at 1, φ_q (linear) near the identity, the keys k_b are learnable, and γ starts
at 30 and is learnable. The cross-entropy of queries of both kinds trains generator, base weights, s and b.

Settings of the released ImageNet code (ResNet-10, 5 exemplars): 389 base classes; an episode has 250
fake-novel classes, 6 queries of each (1500) and 750 queries of the others; 4000 episodes of one a step, 6
epochs, lr .01 for four and .001 for two; SGD, momentum .9 (Nesterov), weight decay 5e-4. Its configs name a
dropout of .5 on the features, which its loop leaves in eval mode: none, therefore (``dropout``).

Long-tailed use: base classes are the many-shot and medium-shot classes and novel ones the few-shot classes
(``novel_groups``), whose final weights are generated from all of their training features.

Scaling to b base classes: ``min(250, ⌊250 b / 389⌋)`` fake-novel classes, at least 1; 6 queries of each;
3 base queries for each of them. 389 base classes give 250 / 1500 / 750, the 70 of CIFAR-100-LT give
44 / 264 / 132, the 6 of Digits-LT 3 / 18 / 9.

Departures:

* Stage 1 trains on all classes; the paper's sees the base classes only. The few-shot rows that it learns are
  not used.
* Stage 1 is image-balanced and of the config's schedule. The released one draws a class uniformly, then an
  image, 400 a step, 100 epochs of 4000 steps.
* Base queries are drawn with replacement, where the released code draws without within one class.
* "No ReLU after the last block", which lets features have both signs: ``model.backbone.last_relu=False``, an
  option of ``cifar_resnet`` and ``small_convnet``. Backbones of mmpretrain, and ``resnet10`` which is one,
  have no such option: their features stay non-negative, and all else is as here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number, is_whole
from lt_bench.errors import LTBenchError
from lt_bench.evaluation.shots import GROUPS
from lt_bench.method import Classifier, Features, FittedClassifier, Representation, TrainedRepresentation
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed, generator
from lt_bench.task import Task

# Of the released ImageNet episodes.
BASE_CLASSES, FAKE_NOVEL, QUERIES_A_CLASS, BASE_QUERIES_A_CLASS = 389, 250, 6, 3
# Numbers that the tables of episodes drawn at once may hold.
TABLE_SIZE = 2**21


def cosine_scores(features: Tensor, weights: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """score_j = s (cos(z, w_j) + b).

    Args:
        features: (..., n, d).
        weights: (..., C, d).
        scale: s, a scalar.
        bias: b, a scalar.

    Returns:
        (..., n, C).
    """
    cosines = F.normalize(features, dim=-1) @ F.normalize(weights, dim=-1).transpose(-1, -2)
    return scale * (cosines + bias)


class SharedBiasCosineHead(nn.Module):
    """score_j = s (cos(z, w_j) + b), s and b learnable and the same for every class.

    Args:
        dim: d.
        num_classes: C.
        scale: s to start from.
    """

    def __init__(self, dim: int, num_classes: int, scale: float = 10.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, dim) * math.sqrt(2 / dim))
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """(n, d) -> (n, C)."""
        return cosine_scores(features.to(self.weight.dtype), self.weight, self.scale, self.bias)


@METHODS.register_module("fslwf")
class FSLwF(Representation):
    """Stage 1 of FSLwF: cross-entropy on a cosine classifier.

    Args:
        task: the task.
        scale: s to start from.

    Raises:
        LTBenchError: a scale that is not above 0.
    """

    def __init__(self, task: Task, scale: float = 10.0) -> None:
        super().__init__(task)
        if not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
            raise LTBenchError(f"fslwf: scale is a number above 0, got {scale!r}")
        self.scale = float(scale)

    def build_head(self, feature_dim: int) -> nn.Module:
        """The cosine classifier, (B, d) -> (B, C)."""
        return SharedBiasCosineHead(feature_dim, self.task.num_classes, self.scale)


class WeightGenerator(nn.Module):
    """Weights of classes out of exemplars and base weights (the paper's attention-based generator).

    Args:
        dim: d.
        num_base: base classes, which have a key each.
        seed: of the initial weights.
        gamma: γ to start from.
    """

    def __init__(self, dim: int, num_base: int, seed: int, gamma: float = 30.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.average_scale = nn.Parameter(torch.ones(dim))
        self.attention_scale = nn.Parameter(torch.ones(dim))
        self.query = nn.Parameter(torch.eye(dim) + 0.001 * torch.randn(dim, dim, generator=random))
        self.query_bias = nn.Parameter(torch.zeros(dim))
        self.keys = nn.Parameter(torch.randn(num_base, dim, generator=random) * math.sqrt(2 / dim))
        self.gamma = nn.Parameter(torch.tensor(float(gamma)))

    def forward(self, exemplars: Tensor, share: Tensor, base: Tensor, keys: Tensor) -> Tensor:
        """The generated weights w'.

        Args:
            exemplars: (..., k, e, d) features of k classes, e of each; any length.
            share: (..., k, e) what each counts for in its class's mean, each row summing to 1: 1 / e, or
                0 for padding.
            base: (..., b, d) weights of the base classes to attend to; any length.
            keys: (..., b, d) their keys.

        Returns:
            (..., k, d).
        """
        unit = F.normalize(exemplars, dim=-1)
        flat = unit.flatten(-3, -2)
        queries = F.normalize(F.linear(flat, self.query, self.query_bias), dim=-1)
        attention = torch.softmax(
            self.gamma * (queries @ F.normalize(keys, dim=-1).transpose(-1, -2)), dim=-1
        )
        # The mean over exemplars first: one row of attention a class then meets the weights.
        share = share.unsqueeze(-1)
        attention = (share * attention.unflatten(-2, exemplars.shape[-3:-1])).sum(-2)
        attended = attention @ F.normalize(base, dim=-1)
        return self.average_scale * (share * unit).sum(-2) + self.attention_scale * attended


def sample_distinct(sizes: Tensor, count: int, random: torch.Generator) -> Tensor:
    """``count`` different whole numbers below each size, in random order, every choice alike.

    Floyd's sampling without replacement, for all sizes at once, then a shuffle: its order is not random.

    Args:
        sizes: (...,) int64, each at least ``count``.
        count: m, how many.
        random: where the draws come from, on the device of ``sizes``.

    Returns:
        (..., m) int64.
    """
    shape = (*sizes.shape, count)
    # In float64 a product with a size below 2^32 keeps every number as likely as the others.
    draws = torch.rand(shape, generator=random, device=sizes.device, dtype=torch.float64)
    chosen = torch.empty(shape, dtype=torch.int64, device=sizes.device)
    for place in range(count):
        last = sizes - count + place
        drawn = torch.minimum((draws[..., place] * (last + 1)).long(), last)
        taken = (chosen[..., :place] == drawn.unsqueeze(-1)).any(-1)
        chosen[..., place] = torch.where(taken, last, drawn)
    order = torch.rand(shape, generator=random, device=sizes.device).argsort(-1)
    return chosen.gather(-1, order)


@dataclass(frozen=True)
class Episodes:
    """E episodes; base classes are named by their place among the b base classes, images by row.

    Attributes:
        classes: (E, b) int64, a shuffle of the base classes; the first k are fake-novel.
        exemplars: (E, k, e) int64.
        novel_queries: (E, k, q) int64, none of them an exemplar.
        base_slots: (E, n) int64, places in ``classes``, from k on, that the base queries belong to.
        base_queries: (E, n) int64.
    """

    classes: Tensor
    exemplars: Tensor
    novel_queries: Tensor
    base_slots: Tensor
    base_queries: Tensor

    def __getitem__(self, part: slice) -> Episodes:
        """Some of the episodes."""
        return Episodes(
            self.classes[part],
            self.exemplars[part],
            self.novel_queries[part],
            self.base_slots[part],
            self.base_queries[part],
        )

    def query_labels(self) -> Tensor:
        """(E, k q + n) int64: the place in ``classes`` of every query's class, the novel ones first."""
        size, novel, each = self.novel_queries.shape
        places = torch.arange(novel, device=self.classes.device).repeat_interleave(each)
        return torch.cat([places.expand(size, -1), self.base_slots], 1)


@dataclass(frozen=True)
class EpisodeShape:
    """How large an episode is.

    Attributes:
        fake_novel: k, base classes that are made novel.
        exemplars: e, of each of them.
        queries: q, of each of them.
        base_queries: n, of the other base classes together.
    """

    fake_novel: int
    exemplars: int
    queries: int
    base_queries: int


class EpisodeSampler:
    """Draws many episodes at once, from tables of where each base class's images are.

    Args:
        labels: (N,) int64 of the training features.
        base: (b,) int64, the base classes.
        shape: of an episode.
    """

    def __init__(self, labels: Tensor, base: Tensor, shape: EpisodeShape) -> None:
        self.shape = shape
        self.members = labels.argsort(stable=True)
        classes = int(max(labels.max(), base.max())) + 1
        counts = torch.bincount(labels, minlength=classes)
        self.counts = counts[base]
        self.starts = (counts.cumsum(0) - counts)[base]

    def draw(self, episodes: int, random: torch.Generator) -> Episodes:
        """``episodes`` episodes, with ``random`` on the device of the labels."""
        shape, device, total = self.shape, self.counts.device, len(self.counts)
        keys = torch.rand(episodes, total, generator=random, device=device)
        classes = keys.argsort(1)
        novel = classes[:, : shape.fake_novel]
        places = sample_distinct(self.counts[novel], shape.exemplars + shape.queries, random)
        rows = self.members[self.starts[novel].unsqueeze(-1) + places]
        draws = torch.rand(
            2, episodes, shape.base_queries, generator=random, device=device, dtype=torch.float64
        )
        rest = total - shape.fake_novel
        slots = shape.fake_novel + (draws[0] * rest).long().clamp_max(rest - 1)
        of_class = classes.gather(1, slots)
        sizes = self.counts[of_class]
        within = torch.minimum((draws[1] * sizes).long(), sizes - 1)
        return Episodes(
            classes,
            rows[..., : shape.exemplars],
            rows[..., shape.exemplars :],
            slots,
            self.members[self.starts[of_class] + within],
        )


def dropped(features: Tensor, rate: float, random: torch.Generator) -> Tensor:
    """Dropout of features by draws of ``random``: 0 with probability ``rate``, else over 1 − ``rate``."""
    kept = torch.rand(features.shape, generator=random, device=features.device) >= rate
    return features * (kept / (1 - rate))


class FewShotClassifier(nn.Module):
    """Base weights, scale, bias and generator: what stage 2 trains.

    Args:
        base: (b, d) base weights to start from.
        scale: s to start from.
        bias: b to start from.
        seed: of the generator's initial weights.
        gamma: γ to start from.
    """

    def __init__(self, base: Tensor, scale: float, bias: float, seed: int, gamma: float = 30.0) -> None:
        super().__init__()
        self.base = nn.Parameter(base.detach().clone())
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.generator = WeightGenerator(base.shape[1], base.shape[0], seed, gamma)

    def episode_scores(self, classes: Tensor, exemplars: Tensor, queries: Tensor) -> Tensor:
        """Scores of queries in episodes whose first k classes are fake-novel.

        Args:
            classes: (P, b) int64, a shuffle of the base classes.
            exemplars: (P, k, e, d) of the first k.
            queries: (P, Q, d).

        Returns:
            (P, Q, b) in the order of ``classes``.
        """
        novel, each = exemplars.shape[1:3]
        kept = classes[:, novel:]
        base = self.base[kept]
        share = exemplars.new_full((novel, each), 1 / each)
        made = self.generator(exemplars, share, base, self.generator.keys[kept])
        return cosine_scores(queries, torch.cat([made, base], 1), self.scale, self.bias)

    def weights_of(self, features: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
        """Generated weights (k, d) of ``classes`` (k,) from all of their rows of ``features`` (n, d)."""
        order = labels.argsort(stable=True)
        counts = torch.bincount(labels, minlength=int(classes.max()) + 1)
        starts = (counts.cumsum(0) - counts)[classes]
        sizes = counts[classes]
        places = torch.arange(int(sizes.max()), device=labels.device)
        inside = places < sizes.unsqueeze(1)
        rows = order[torch.where(inside, starts.unsqueeze(1) + places, 0)]
        share = inside.to(features.dtype) / sizes.unsqueeze(1)
        made: Tensor = self.generator(features[rows], share, self.base, self.generator.keys)
        return made


@METHODS.register_module("fslwf_generator")
class FSLwFGenerator(Classifier):
    """Stage 2 of FSLwF: the classifier of base weights and generated ones.

    Args:
        task: the task.
        novel_groups: shot groups whose classes get generated weights; the others are base classes.
        exemplars: of a fake-novel class in an episode.
        fake_novel: fake-novel classes of an episode; scaled from 250 of 389 where None.
        novel_queries: queries of all fake-novel classes; 6 of each where None.
        base_queries: queries of the other base classes; 3 a fake-novel class where None.
        episodes: of an epoch.
        episodes_per_step: that share a step.
        epochs: of stage 2.
        lr: of the first two thirds of the epochs; a tenth of it after.
        dropout: of exemplars and queries in training.
        momentum: Nesterov's.
        weight_decay: of all that is trained.
        gamma: γ to start from.

    Raises:
        LTBenchError: a number out of range, a group that is none, no novel class, or base classes that are
            too few or have too few images for an episode.
    """

    def __init__(
        self,
        task: Task,
        novel_groups: Sequence[str] = ("few",),
        exemplars: int = 5,
        fake_novel: int | None = None,
        novel_queries: int | None = None,
        base_queries: int | None = None,
        episodes: int = 4000,
        episodes_per_step: int = 1,
        epochs: int = 6,
        lr: float = 0.01,
        dropout: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        gamma: float = 30.0,
    ) -> None:
        super().__init__(task)
        for name, value in {
            "exemplars": exemplars,
            "fake_novel": fake_novel,
            "novel_queries": novel_queries,
            "base_queries": base_queries,
            "episodes": episodes,
            "episodes_per_step": episodes_per_step,
            "epochs": epochs,
        }.items():
            if value is not None and (not is_whole(value, 1)):
                raise LTBenchError(f"fslwf_generator: {name} is a whole number from 1, got {value!r}")
        if not 0 <= dropout < 1:
            raise LTBenchError(f"fslwf_generator: dropout is from 0 to below 1, got {dropout!r}")
        if not 0 < momentum < 1:
            raise LTBenchError(f"fslwf_generator: momentum is between 0 and 1, got {momentum!r}")
        for name, number in {"lr": lr, "weight_decay": weight_decay, "gamma": gamma}.items():
            finite_number(number, f"fslwf_generator's {name}")
        self.base, self.novel = split_classes(task, novel_groups)
        self.shape = episode_shape(task.counts[self.base], exemplars, fake_novel, novel_queries, base_queries)
        self.episodes, self.episodes_per_step, self.epochs = episodes, episodes_per_step, epochs
        self.lr, self.dropout, self.momentum = lr, dropout, momentum
        self.weight_decay, self.gamma = weight_decay, gamma

    def rate(self, epoch: int) -> float:
        """The learning rate of epoch ``epoch``, counted from 1: a tenth after two thirds of the epochs."""
        return self.lr if epoch <= max(1, 2 * self.epochs // 3) else self.lr / 10

    def check_head(self, head: nn.Module) -> None:
        """Base weights start at the directions of stage 1's rows, which linear and cosine heads have."""
        rows = getattr(head, "weight", None)
        if not isinstance(rows, Tensor) or rows.dim() != 2 or len(rows) != self.task.num_classes:
            raise LTBenchError(
                "fslwf_generator expects a stage-1 head with one weight row a class, got "
                f"{type(head).__name__}; train stage 1 with representation=dict(type='fslwf')"
            )

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Train base weights and generator by episodes, and generate the novel classes' weights.

        Raises:
            LTBenchError: the head of stage 1 has no weight row a class, or the loss is not finite.
        """
        train = stage.features("train")
        if train is None:
            raise RuntimeError("a trained representation has training features")
        classes, dim = self.task.num_classes, stage.feature_dim
        self.check_head(stage.head)
        rows = stage.head.get_parameter("weight")
        shared = stage.head if isinstance(stage.head, SharedBiasCosineHead) else None
        base, novel = self.base.to(stage.device), self.novel.to(stage.device)
        model = FewShotClassifier(
            rows.detach()[base],
            10.0 if shared is None else float(shared.scale.detach()),
            0.0 if shared is None else float(shared.bias.detach()),
            derive_seed(stage.seed, "fslwf"),
            self.gamma,
        ).to(stage.device)
        self._train(model, train, base, stage.seed)
        head = SharedBiasCosineHead(dim, classes).to(stage.device).eval().requires_grad_(False)
        with torch.no_grad():
            head.weight[base] = model.base
            head.weight[novel] = model.weights_of(train.features, train.labels, novel)
            head.scale.copy_(model.scale)
            head.bias.copy_(model.bias)
        notes = {
            "base_classes": len(self.base),
            "novel_classes": self.novel.tolist(),
            "episode": {
                "fake_novel": self.shape.fake_novel,
                "exemplars": self.shape.exemplars,
                "novel_queries": self.shape.fake_novel * self.shape.queries,
                "base_queries": self.shape.base_queries,
            },
            "scale": round(float(model.scale.detach()), 6),
            "gamma": round(float(model.generator.gamma.detach()), 6),
        }
        return FittedClassifier(head, notes=notes)

    def _train(self, model: FewShotClassifier, train: Features, base: Tensor, seed: int) -> None:
        sampler = EpisodeSampler(train.labels, base, self.shape)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=True,
            foreach=True,
        )
        shape = self.shape
        each = len(base) + shape.fake_novel * (shape.exemplars + shape.queries) + 2 * shape.base_queries
        steps_at_once = max(1, TABLE_SIZE // (each * self.episodes_per_step))
        for epoch in range(1, self.epochs + 1):
            for group in optimizer.param_groups:
                group["lr"] = self.rate(epoch)
            random = generator(base.device, seed, "fslwf episodes", epoch)
            total, steps = torch.zeros((), device=base.device), 0
            for first in range(0, self.episodes, steps_at_once * self.episodes_per_step):
                drawn = sampler.draw(
                    min(self.episodes - first, steps_at_once * self.episodes_per_step), random
                )
                for start in range(0, len(drawn.classes), self.episodes_per_step):
                    part = drawn[start : start + self.episodes_per_step]
                    loss = self._loss(model, train.features, part, random)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    total += loss.detach()
                    steps += 1
            if not torch.isfinite(total):
                raise LTBenchError(
                    f"fslwf_generator's loss became {total.item() / steps} in its epoch {epoch}; lower "
                    f"method.classifier.lr (now {self.lr}) or look at the features"
                )

    def _loss(
        self, model: FewShotClassifier, features: Tensor, part: Episodes, random: torch.Generator
    ) -> Tensor:
        queries = torch.cat([part.novel_queries.flatten(1), part.base_queries], 1)
        scores = model.episode_scores(
            part.classes,
            dropped(features[part.exemplars], self.dropout, random),
            dropped(features[queries], self.dropout, random),
        )
        return F.cross_entropy(scores.flatten(0, 1), part.query_labels().flatten())


def split_classes(task: Task, novel_groups: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Base classes (b,) and novel classes (C − b,), int64 in ascending order.

    Raises:
        LTBenchError: a group that is none, no novel class, or fewer than 2 base classes.
    """
    listed = isinstance(novel_groups, (list, tuple)) and bool(novel_groups)
    if not listed or not all(name in GROUPS for name in novel_groups):
        raise LTBenchError(
            f"fslwf_generator: novel_groups is a list of {', '.join(GROUPS)}; got {novel_groups!r}"
        )
    wanted = torch.tensor([GROUPS.index(name) for name in novel_groups])
    is_novel = torch.isin(task.groups.cpu().long(), wanted)
    novel, base = is_novel.nonzero().flatten(), (~is_novel).nonzero().flatten()
    groups = " or ".join(f"{name}-shot" for name in novel_groups)
    if not len(novel):
        raise LTBenchError(
            f"fslwf_generator makes the weights of {groups} classes, and {task.dataset} has none under the "
            f"convention {task.convention!r}; name other groups in method.classifier.novel_groups, or choose "
            "another classifier"
        )
    if len(base) < 2:
        raise LTBenchError(
            f"fslwf_generator needs 2 base classes or more, one to be made novel and one to stay, and "
            f"{task.dataset} has {len(base)} that are not {groups}; name fewer groups in "
            "method.classifier.novel_groups"
        )
    return base, novel


def episode_shape(
    counts: Tensor,
    exemplars: int,
    fake_novel: int | None,
    novel_queries: int | None,
    base_queries: int | None,
) -> EpisodeShape:
    """The size of an episode, scaled down from the released one where it is left open.

    Args:
        counts: (b,) int64, training images of the base classes, b from 2.
        exemplars: of a fake-novel class.
        fake_novel: classes made novel; min(250, ⌊250 b / 389⌋), at least 1, where None.
        novel_queries: of all of them; 6 each where None.
        base_queries: of the others; 3 a fake-novel class where None.

    Raises:
        LTBenchError: a number that does not fit the classes or their images.
    """
    total = len(counts)
    novel = fake_novel or max(1, min(FAKE_NOVEL, total * FAKE_NOVEL // BASE_CLASSES))
    if novel >= total:
        raise LTBenchError(
            f"fslwf_generator: fake_novel is below the number of base classes, {total}; got {novel}"
        )
    queries = novel_queries or novel * QUERIES_A_CLASS
    if queries % novel:
        raise LTBenchError(
            f"fslwf_generator: novel_queries is a multiple of fake_novel, {novel}; got {queries}"
        )
    each, least = exemplars + queries // novel, int(counts.min())
    if least < each:
        raise LTBenchError(
            f"an episode of fslwf_generator draws {exemplars} exemplars and {queries // novel} queries of a "
            f"base class, and the smallest has {least} training images; lower method.classifier.exemplars or "
            "novel_queries, or put its group into novel_groups"
        )
    return EpisodeShape(novel, exemplars, queries // novel, base_queries or novel * BASE_QUERIES_A_CLASS)
