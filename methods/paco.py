"""PaCo (Cui, Zhong, Liu, Yu and Jia, "Parametric Contrastive Learning", ICCV 2021).

Supervised contrastive learning with a momentum encoder and a queue (MoCo; He et al., CVPR 2020), in which
the classifier's rows stand as one learned positive or negative a class, the parametric centres:

    s_ik   = q_i·v_k / T                     k over the batch's other queries, its keys and the queue
    s_ij   = w_j z_i + b_j + log π_j         j over the classes
    L_i    = -1/W_i ( β log p_{i,y_i} + α Σ_{k: y_k = y_i} log p_ik )
    W_i    = β + α |{k: y_k = y_i}|,  p_i = softmax of all s_i together;  L = mean_i L_i

q and v are L2-normalised outputs of a projection (linear, batch norm, ReLU, linear) of view 1 through the
backbone and of view 2 through its momentum copy. A small α / β leaves less of the loss to positive samples,
of which frequent classes have more in the queue. log π rebalances the centres, as in Balanced Softmax.

Settings, of the released code's first script for CIFAR-100-LT at imbalance 100: α = 0.02, β = 1, T = 0.05,
queue 1024, 64-d projections (hidden width d), momentum 0.999, batch 128, learning rate 0.02, weight decay
5e-4, 400 epochs. (A later one has α = 0.01, learning rate 0.05 and 32-d projections.) From the released
code rather than the paper: the sum is divided by W_i, queries of the same batch contrast each other, and γ
(weight of sample terms in the denominator) is 1, so left out.

The momentum encoder: parameters move as θ_k <- m θ_k + (1 - m) θ_q before each forward; it runs in train
mode without gradient, so its batch norm uses the statistics of the batch of keys. Running statistics of
its own are kept as in MoCo (no average of the query's); nothing reads them. Its first update of a
training copies θ_q, whatever drew or loaded the query's weights since the model was built.

Departures:

* Places of the queue that hold no key yet are left out. The released code starts with random keys of
  random labels.
* The batch is not shuffled among processes before the keys' batch norm, which takes the statistics of the
  global batch. Queries, keys and the queue are of the global batch too.
* Augmentation: view 1 is cropped and flipped as for every other method, view 2 gets colour jitter
  (0.4, 0.4, 0.4, 0.1 with probability 0.8) and greying (probability 0.2) on top; single-channel digits are
  cropped and jittered in brightness and contrast. The paper's view 1 has AutoAugment and Cutout on CIFAR,
  worth about 6 points on CIFAR-100-LT, which are not used here: results do not compare with the paper's.
  (Its view 2 is a random resized crop, blurred at times.)
* Schedule: the epochs and steps of the other methods, not 400 epochs with drops at 320 and 360.
* The short last batch of an epoch is trained on and enters the queue; the released code drops it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lt_bench.arguments import finite_number, is_whole
from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.class_priors import log_prior, prior_cross_entropy
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.models.projection import ProjectionMLP
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task

VIEWS = 2
# The label of a place in the queue that holds no key yet.
EMPTY = -1


def parametric_contrastive_loss(
    logits: Tensor,
    queries: Tensor,
    labels: Tensor,
    keys: Tensor,
    key_labels: Tensor,
    prior: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """L of the module's docstring (Cui et al., ICCV 2021).

    Args:
        logits: (B, C) float, w_j z_i + b_j.
        queries: (B, p) float, of length 1.
        labels: (B,) int64.
        keys: (M, p) float, of length 1: the batch's keys and the queue.
        key_labels: (M,) int64; :data:`EMPTY` leaves a key out.
        prior: (C,) float, log π.
        alpha: weight of a positive sample, from 0.
        beta: weight of the class's centre, above 0.
        temperature: T, above 0.

    Returns:
        A scalar, the mean over the queries.
    """
    logits, queries, keys = (at_least_float32(x) for x in (logits, queries, keys))
    batch = len(queries)
    samples = torch.cat([queries, keys.to(queries.dtype)])
    sample_labels = torch.cat([labels, key_labels])
    similarity = queries @ samples.T / temperature

    left_out = torch.eye(batch, len(samples), dtype=torch.bool, device=labels.device)
    left_out = left_out | (sample_labels == EMPTY)
    centres = logits + prior
    log_denominator = torch.cat([centres, similarity.masked_fill(left_out, -torch.inf)], 1).logsumexp(1)

    positive = (labels.unsqueeze(1) == sample_labels) & ~left_out
    numerator = beta * centres.gather(1, labels.unsqueeze(1)).squeeze(1)
    numerator = numerator + alpha * similarity.masked_fill(~positive, 0).sum(1)
    weight = beta + alpha * positive.to(similarity.dtype).sum(1)
    return (log_denominator - numerator / weight).mean()


@METHODS.register_module("paco")
class PaCo(Representation):
    """Parametric contrastive learning on two views of each image.

    Args:
        task: the task.
        alpha: α, weight of a positive sample, from 0.
        beta: β, weight of the class's centre, above 0.
        temperature: T, above 0.
        queue: K, keys that are kept, at least a batch.
        momentum: m of the key encoder, in [0, 1].
        hidden: width of the projection's hidden layer; None is d.
        out: p, dimensions of a projection.

    Raises:
        LTBenchError: a number outside of its range; a class without a training image; while training,
            images without two views or a batch larger than the queue.
    """

    capture = "epoch_end"
    prior: Tensor
    queue: Tensor
    queue_labels: Tensor
    pointer: Tensor

    def __init__(
        self,
        task: Task,
        alpha: float = 0.02,
        beta: float = 1.0,
        temperature: float = 0.05,
        queue: int = 1024,
        momentum: float = 0.999,
        hidden: int | None = None,
        out: int = 64,
    ) -> None:
        super().__init__(task)
        self.alpha = finite_number(alpha, "paco's alpha")
        self.beta = finite_number(beta, "paco's beta")
        self.temperature = finite_number(temperature, "paco's temperature")
        self.momentum = finite_number(momentum, "paco's momentum")
        if not self.beta or not self.temperature:
            raise LTBenchError(
                f"paco's beta and temperature are above 0, got {beta!r} and {temperature!r}; "
                "the released code has 1 and 0.05"
            )
        if self.momentum > 1:
            raise LTBenchError(f"paco's momentum is in 0 to 1, got {momentum!r}")
        for name, value in (("queue", queue), ("hidden", hidden), ("out", out)):
            if not is_whole(value, 1) and (name, value) != ("hidden", None):
                raise LTBenchError(f"paco's {name} is a whole number from 1, got {value!r}")
        self.hidden, self.out = hidden, out
        self.register_buffer("prior", log_prior(task.counts), persistent=False)
        self.register_buffer("queue", torch.zeros(queue, out))
        self.register_buffer("queue_labels", torch.full((queue,), EMPTY, dtype=torch.int64))
        # The place of the next key.
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self._copies_next = True

    def build_head(self, feature_dim: int) -> nn.Module:
        """The classifier (B, d) -> (B, C), whose rows are the centres; the projection is made with it."""
        self.projection = ProjectionMLP(feature_dim, self.hidden or feature_dim, self.out)
        return super().build_head(feature_dim)

    def attach(self, model: StageOneModel) -> None:
        """Register the momentum encoder: copies of backbone and projection that no optimiser trains."""
        self.key_encoder = StageOneModel(
            copy.deepcopy(model.backbone), nn.Identity(), _no_loss, model.numerics
        ).requires_grad_(False)
        self.key_projection = copy.deepcopy(self.projection).requires_grad_(False)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """The first step of the first epoch copies the encoder, every other averages."""
        del epochs
        self._copies_next = epoch == 1

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss's part without samples (α = 0, no keys): cross-entropy of logits (B, C) + log π."""
        return prior_cross_entropy(logits, labels, self.prior)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """The loss of images (B, 2, C, H, W), a scalar; the batch's keys go into the queue."""
        images = batch.images
        if images.dim() != 5 or images.shape[1] != VIEWS:
            raise LTBenchError(
                f"paco trains on {VIEWS} views of each image, got images of shape {tuple(images.shape)}; end "
                "train_transforms with dict(type='batch_views', views=[[...], [...]])"
            )
        if batch.total > len(self.queue):
            raise LTBenchError(
                f"paco's queue of {len(self.queue)} is smaller than a batch of {batch.total}; "
                "set a larger method.representation.queue"
            )
        # Queries, keys and the queue are of the global batch.
        features, labels = batch.gathered(model.features(images[:, 0]))
        with torch.no_grad():
            self._move_key_encoder(model)
            keys = self.key_projection(batch.of_all(self.key_encoder.features(images[:, 1])))
        loss = parametric_contrastive_loss(
            model.head(features),
            self.projection(features),
            labels,
            torch.cat([keys, self.queue]),
            torch.cat([labels, self.queue_labels]),
            self.prior,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
        )
        self._enqueue(keys, labels)
        return loss

    def _move_key_encoder(self, model: StageOneModel) -> None:
        ours = [*self.key_encoder.backbone.parameters(), *self.key_projection.parameters()]
        theirs = [*model.backbone.parameters(), *self.projection.parameters()]
        if self._copies_next:
            for own, other in zip(ours, theirs, strict=True):
                own.copy_(other)
            self._copies_next = False
        else:
            get_ema_multi_avg_fn(self.momentum)(ours, theirs, 0)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, labels: Tensor) -> None:
        """Put the keys (B, p) in the places of the oldest, B at most K."""
        size = len(self.queue)
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % size
        self.queue.index_copy_(0, places, keys.to(self.queue.dtype))
        self.queue_labels.index_copy_(0, places, labels)
        self.pointer.add_(len(keys)).remainder_(size)


def _no_loss(model: StageOneModel, batch: Any) -> Tensor:
    raise NotImplementedError("the momentum encoder only makes keys and has no loss")
