"""OLTR (Liu, Miao, Zhan, Wang, Gong and Yu, "Large-Scale Long-Tailed Recognition in an Open World",
CVPR 2019): modulated attention, a memory of class centroids, and meta-embeddings of both.

Stage 1 is plain. Stage 2 trains through the backbone with class-aware sampling, 4 images a visit. With f
the feature map of an image:

    f_att = f + SA(f) ⊙ MA(f)                    modulated attention (section 3.2)
    v = ReLU(fc(pool(f_att)))                    direct feature, 512 dimensions
    m = softmax(T_h v) · M                       memory feature, M (C x 512) the class centroids (section 3.1)
    e = tanh(T_s v),   γ = 10 / min_j ‖v − M_j‖  concept selector and reachability (section 3.1)
    u = γ (v + e ⊙ m)                            meta-embedding (section 3.1)
    logit_j = 16 · ‖u‖ / (1 + ‖u‖) · û · ŵ_j      cosine classifier (section 3.3)
    L = CE + .01 · L_DC                          (section 3.3)
    L_DC = Σ_i ‖v_i − M_{y_i}‖² / (2B) + .01 · max(0, 10 − Σ_{i, j≠y_i} ‖v_i − M_j‖² / (BC))

SA is an embedded-Gaussian non-local block (1x1 convolutions, reduction 2) whose output convolution starts
at 0; MA is a softmax over spatial positions of a linear map of the flattened f. M starts at the class
means of v and learns from L_DC alone (the classifier sees it detached), by an SGD of its own at the rate
.01, divided with the others. The gradient of its pull is divided by 1 + the class's count in the batch and,
as in the released backward pass, not weighted by the .01 of L_DC. T_h starts from the classifier of stage 1.

Settings are those of the released code after its fixes. ImageNet-LT: 60 epochs, batch 128, lr .01 for
backbone, attention and fc and .1 for the head, divided by 10 every 20 epochs, momentum .9, weight decay
5e-4. Places-LT: 30 epochs, 1e-4 and .01, divided by 10 every 10, the backbone frozen
(``train_backbone=False``). Rates go with the batch size.

Batch norm of a trained backbone runs in train mode, so its statistics become those of class-aware
batches; the record says so.

Departures:

* The released stage 1 has the fc layer already. Here stage 1 ends in the pooled feature z, so fc starts as
  the identity on the first d of its outputs (the others, where hidden > d, start at random) and T_h as
  stage 1's classifier on these: v and T_h v start where stage 1 ended, as released. With hidden < d this
  cannot be, and both start at random.
* The head is computed as 16 · w / (min_j ‖v − M_j‖ / 10 + ‖w‖) · ŵ_j with w = v + e ⊙ m: the same number,
  finite where v lies on a centroid, as it does at once for a class of one image.
* A frozen backbone keeps its batch statistics; the released code lets them drift.
* M starts at class means of augmented images, those of the released code are not augmented.
* The output convolution of the non-local block has a bias, which starts at 0; the released one has none.
* A backbone that pools itself has no positions to attend to: attention is left out, and the notes say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.arguments import finite_number, is_whole
from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.method import Classifier, FittedClassifier, ImageEpochs, TrainedRepresentation
from lt_bench.models.heads import linear_head
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.seeding import derive_seed
from lt_bench.task import Task

REACH, SCALE, MARGIN, REPEL = 10.0, 16.0, 10.0, 0.01
# Of a denominator that is 0 only for v = M_j and w = 0.
EPSILON = 1e-6


class ModulatedAttention(nn.Module):
    """f + SA(f) ⊙ MA(f) (section 3.2).

    Args:
        channels: d.
        height: h.
        width: w.
        seed: of the initial weights.
        reduction: d over the channels inside of the non-local block.
    """

    def __init__(self, channels: int, height: int, width: int, seed: int, reduction: int = 2) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        generator = torch.Generator().manual_seed(seed)
        self.shape = (channels, height, width)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        for conv in (self.theta, self.phi, self.value):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.out = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        positions = height * width
        self.spatial = linear_head(channels * positions, positions, derive_seed(seed, "spatial"))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, d, h, w).

        Raises:
            LTBenchError: maps of another shape than the one the attention was made for.
        """
        if tuple(maps.shape[1:]) != self.shape:
            raise LTBenchError(
                f"OLTR's attention was made for feature maps of shape {self.shape}, got "
                f"{tuple(maps.shape[1:])}; train and test images must have one size"
            )
        theta, phi, value = (conv(maps).flatten(2) for conv in (self.theta, self.phi, self.value))
        affinity = torch.softmax(theta.transpose(1, 2) @ phi, dim=2)
        gathered = (affinity @ value.transpose(1, 2)).transpose(1, 2)
        attended = self.out(gathered.unflatten(2, self.shape[1:]))
        where = torch.softmax(self.spatial(maps.flatten(1)), dim=1).view(-1, 1, *self.shape[1:])
        return maps + attended * where


def direct_layer(dim: int, hidden: int, seed: int) -> nn.Linear:
    """The layer fc: the identity on its first d outputs where hidden >= d, random elsewhere.

    Args:
        dim: d of the pooled feature.
        hidden: outputs.
        seed: of the random part.
    """
    layer = linear_head(dim, hidden, seed)
    if hidden >= dim:
        with torch.no_grad():
            layer.weight[:dim] = torch.eye(dim)
            layer.bias[:dim] = 0
    return layer


class DirectFeatures(nn.Module):
    """Images -> v: backbone, modulated attention, pooling, fc, ReLU.

    Args:
        stage_one: the model of stage 1; its backbone is used.
        attention: on the feature map; None where the backbone pools itself.
        fc: (B, d) -> (B, hidden).
        train_backbone: whether the backbone learns.
    """

    def __init__(
        self,
        stage_one: StageOneModel,
        attention: ModulatedAttention | None,
        fc: nn.Linear,
        train_backbone: bool,
    ) -> None:
        super().__init__()
        self.stage_one = stage_one.requires_grad_(False)
        self.stage_one.backbone.requires_grad_(train_backbone)
        self.attention = attention
        self.fc = fc
        self.train_backbone = train_backbone

    def train(self, mode: bool = True) -> DirectFeatures:
        """Train or eval mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        self.stage_one.train(mode and self.train_backbone)
        return self

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) -> v (B, hidden) float32, none negative."""
        maps = self.stage_one.feature_map(images)
        if self.attention is not None:
            maps = self.attention(maps)
        pooled = maps.mean(dim=(2, 3)) if maps.dim() == 4 else maps
        return F.relu(self.fc(pooled))


class MetaEmbeddingHead(nn.Module):
    """v -> logits through memory, hallucinator, selector, reachability and cosines (sections 3.1 and 3.3).

    Args:
        memory: (C, hidden) the centroids to start from; the memory takes no gradient from here.
        seed: of the initial weights.
    """

    def __init__(self, memory: Tensor, seed: int) -> None:
        super().__init__()
        classes, hidden = memory.shape
        self.memory = nn.Parameter(memory.detach().clone())
        self.hallucinator = linear_head(hidden, classes, derive_seed(seed, "hallucinator"))
        self.selector = linear_head(hidden, hidden, derive_seed(seed, "selector"))
        bound = 1 / math.sqrt(hidden)
        generator = torch.Generator().manual_seed(derive_seed(seed, "classifier"))
        self.weight = nn.Parameter(torch.empty(classes, hidden).uniform_(-bound, bound, generator=generator))

    @torch.no_grad()
    def hallucinate_from(self, weight: Tensor, bias: Tensor | None = None) -> bool:
        """Start T_h at stage 1's classifier of the first d dimensions of v.

        Args:
            weight: (C, d) stage 1's rows.
            bias: (C,) its biases, if it has any.

        Returns:
            Whether v has d dimensions; if not, T_h is left as it was.
        """
        dim = weight.shape[1]
        if dim > self.hallucinator.in_features:
            return False
        self.hallucinator.weight.zero_()
        self.hallucinator.weight[:, :dim] = weight
        self.hallucinator.bias.zero_()
        if bias is not None:
            self.hallucinator.bias.copy_(bias)
        return True

    def forward(self, features: Tensor) -> Tensor:
        """v (B, hidden) -> logits (B, C)."""
        features = features.to(self.weight.dtype)
        memory = self.memory.detach()
        recalled = torch.softmax(self.hallucinator(features), dim=1) @ memory
        joined = features + torch.tanh(self.selector(features)) * recalled
        norm = torch.linalg.vector_norm(joined, dim=1, keepdim=True)
        reach = nearest_distance(features, memory).unsqueeze(1) / REACH
        # ‖u‖ / (1 + ‖u‖) û with u = joined / reach, multiplied out.
        embedded = joined / (reach + norm).clamp_min(EPSILON)
        return F.linear(SCALE * embedded, F.normalize(self.weight))


def nearest_distance(features: Tensor, memory: Tensor) -> Tensor:
    """min_j ‖v − M_j‖, the denominator of the reachability (section 3.1).

    Args:
        features: v (B, hidden).
        memory: M (C, hidden).

    Returns:
        (B,); gradients go to the nearest centroid and to v, and are 0 where the two are equal.
    """
    with torch.no_grad():
        # Who is nearest needs no exact distance, and no (B, C, hidden) of differences.
        nearest = (memory.square().sum(1) - 2 * features @ memory.T).argmin(1)
    return torch.linalg.vector_norm(features - memory[nearest], dim=1)


def centroid_loss(features: Tensor, labels: Tensor, memory: Tensor) -> Tensor:
    """L_DC, the discriminative centroid loss (section 3.3, as released).

    The pull has its gradient with respect to v alone: for that of M see :func:`memory_pull`.

    Args:
        features: v (B, hidden).
        labels: (B,) int64.
        memory: M (C, hidden).

    Returns:
        A scalar tensor.
    """
    size, classes = len(features), len(memory)
    pull = (features - memory.detach()[labels]).square().sum() / (2 * size)
    # Σ_ij ‖v_i − M_j‖², multiplied out, less the pairs of a sample and its own class.
    pairs = (
        classes * features.square().sum() - 2 * features.sum(0) @ memory.sum(0) + size * memory.square().sum()
    )
    own = (features - memory[labels]).square().sum()
    push = F.relu(MARGIN - (pairs - own) / (size * classes))
    return pull + REPEL * push


def memory_pull(features: Tensor, labels: Tensor, memory: Tensor) -> Tensor:
    """What draws M to v (section 3.3, as released); its gradient is Σ_{i: y_i=j} (M_j − v_i) / (B (1 + n_j)).

    Args:
        features: v (B, hidden); no gradient flows into them.
        labels: (B,) int64, n_j of them of class j.
        memory: M (C, hidden).

    Returns:
        A scalar tensor.
    """
    counts = memory.new_zeros(len(memory)).scatter_add_(0, labels, memory.new_ones(len(labels)))
    apart = (memory[labels] - features.detach()).square().sum(1)
    return (apart / (1 + counts[labels])).sum() / (2 * len(labels))


@torch.no_grad()
def class_means(network: DirectFeatures, batches: Iterable[Batch], num_classes: int) -> Tensor:
    """Class means of v over batches of images, (C, hidden), through the network as it stands.

    Args:
        network: images -> v.
        batches: of training images; a class that does not occur gets a mean of 0.
        num_classes: C.
    """
    sums = torch.zeros(num_classes, network.fc.out_features, device=network.fc.weight.device)
    counts = torch.zeros(num_classes, device=sums.device)
    for batch in batches:
        # A product with the one-hot matrix: unlike index_add_, it adds in a fixed order on a GPU too.
        members = F.one_hot(batch.labels, num_classes).to(sums.dtype)
        sums += members.T @ network.features(batch.images)
        counts += members.sum(0)
    return sums / counts.clamp_min(1).unsqueeze(1)


@METHODS.register_module("oltr")
class OLTR(Classifier):
    """Stage 2 of OLTR.

    Args:
        task: the task.
        hidden: dimensions of v.
        epochs: of stage 2.
        batch_size: images a step.
        backbone_lr: first rate of backbone, attention and fc.
        head_lr: first rate of hallucinator, selector and classifier.
        step: epochs between divisions of the rates by 10; a third of ``epochs`` where None.
        memory_lr: first rate of the memory.
        train_backbone: False freezes the backbone and leaves attention, fc and head to learn.
        momentum: of all three.
        weight_decay: of all three.
        centroid_weight: factor of L_DC in the loss.
        sampler: how images are drawn; class-aware, 4 a visit, where None.

    Raises:
        LTBenchError: a number out of range.
    """

    def __init__(
        self,
        task: Task,
        hidden: int = 512,
        epochs: int = 60,
        batch_size: int = 128,
        backbone_lr: float = 0.01,
        head_lr: float = 0.1,
        step: int | None = None,
        memory_lr: float = 0.01,
        train_backbone: bool = True,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        centroid_weight: float = 0.01,
        sampler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(task)
        whole = {"hidden": hidden, "epochs": epochs, "batch_size": batch_size}
        for name, value in {**whole, **({} if step is None else {"step": step})}.items():
            if not is_whole(value, 1):
                raise LTBenchError(f"oltr: {name} is a whole number from 1, got {value!r}")
        for name, rate in {
            "backbone_lr": backbone_lr,
            "head_lr": head_lr,
            "memory_lr": memory_lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "centroid_weight": centroid_weight,
        }.items():
            finite_number(rate, f"oltr's {name}")
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.backbone_lr, self.head_lr, self.memory_lr = backbone_lr, head_lr, memory_lr
        self.step = step if step is not None else max(1, epochs // 3)
        self.train_backbone = bool(train_backbone)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.centroid_weight = centroid_weight
        self.sampler = dict(sampler or {"type": "class_aware", "per_visit": 4})

    def drawing(self) -> dict[str, Any]:
        """Class-aware images, unless told otherwise."""
        return {"sampler": self.sampler, "batch_size": self.batch_size, "epochs": self.epochs}

    def check_head(self, head: nn.Module) -> None:
        """The hallucinator starts as a linear head."""
        if not isinstance(head, nn.Linear):
            raise LTBenchError(
                f"oltr starts its hallucinator from a linear stage-1 head, got {type(head).__name__}; "
                "train stage 1 with representation=dict(type='plain')"
            )

    def rate(self, epoch: int) -> float:
        """The factor of the rates in epoch ``epoch``, counted from 1."""
        return float(0.1 ** ((epoch - 1) // self.step))

    def fit(self, stage: TrainedRepresentation) -> FittedClassifier:
        """Train backbone, attention, memory and head.

        Raises:
            LTBenchError: the head of stage 1 is not linear, or the loss is not finite.
        """
        self.check_head(stage.head)
        seed = derive_seed(stage.seed, "oltr")
        plain = stage.images({"type": "instance"}, batch_size=self.batch_size, epochs=1)
        network = self._network(stage, plain, seed)
        start = class_means(network.eval(), plain.epoch(1), self.task.num_classes)
        head = MetaEmbeddingHead(start, seed).to(stage.device)
        carried = head.hallucinate_from(**stage.head.state_dict())
        self._train(network, head, stage.images(**self.drawing()))
        memory = head.memory.detach()
        moved = torch.linalg.vector_norm(memory - start, dim=1)
        notes = {
            "memory": {
                "shape": list(start.shape),
                "started_at": "class means of v over one image-balanced epoch of augmented training images",
                "mean_norm": round(float(torch.linalg.vector_norm(memory, dim=1).mean()), 6),
                "mean_distance_moved": round(float(moved.mean()), 6),
            },
            "hallucinator": "stage 1's classifier" if carried else "random: v has fewer dimensions than z",
            "modulated_attention": (
                "left out: the backbone pools itself"
                if network.attention is None
                else f"feature map {'x'.join(map(str, network.attention.shape))}"
            ),
            "backbone": "trained" if self.train_backbone else "frozen",
        }
        return FittedClassifier(
            head.eval().requires_grad_(False),
            notes=notes,
            model=network.eval().requires_grad_(False),
            batch_norm="train" if self.train_backbone else "eval",
        )

    def _network(self, stage: TrainedRepresentation, images: ImageEpochs, seed: int) -> DirectFeatures:
        model = stage.model_copy()
        with torch.no_grad():
            shape = model.feature_map(next(iter(images.epoch(1))).images[:1]).shape[1:]
        attention = (
            ModulatedAttention(*shape, derive_seed(seed, "attention")).to(stage.device)
            if len(shape) == 3
            else None
        )
        fc = direct_layer(int(shape[0]), self.hidden, derive_seed(seed, "fc")).to(stage.device)
        return DirectFeatures(model, attention, fc, self.train_backbone)

    def _train(self, network: DirectFeatures, head: MetaEmbeddingHead, data: ImageEpochs) -> None:
        rest = [parameter for name, parameter in head.named_parameters() if name != "memory"]
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        # SGD keeps nothing in common between groups, so the memory's is an optimiser of its own.
        groups = [
            {"params": learning, "lr": self.backbone_lr},
            {"params": rest, "lr": self.head_lr},
            {"params": [head.memory], "lr": self.memory_lr},
        ]
        optimizer = torch.optim.SGD(
            groups, momentum=self.momentum, weight_decay=self.weight_decay, foreach=True
        )
        first = (self.backbone_lr, self.head_lr, self.memory_lr)
        for epoch in range(1, self.epochs + 1):
            for group, rate in zip(optimizer.param_groups, first, strict=True):
                group["lr"] = rate * self.rate(epoch)
            network.train()
            head.train()
            total = torch.zeros((), device=head.weight.device)
            for batch in data.epoch(epoch):
                features = network.features(batch.images)
                loss = F.cross_entropy(head(features), batch.labels)
                loss = loss + self.centroid_weight * centroid_loss(features, batch.labels, head.memory)
                loss = loss + memory_pull(features, batch.labels, head.memory)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach()
            if not torch.isfinite(total):
                raise LTBenchError(
                    f"OLTR's loss became {total.item() / max(1, len(data))} in epoch {epoch} of its second "
                    f"stage; lower method.classifier.backbone_lr (now {self.backbone_lr}) and head_lr (now "
                    f"{self.head_lr})"
                )
