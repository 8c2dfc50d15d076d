"""BBN (Zhou, Cui, Wei and Chen, "BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed
Visual Recognition", CVPR 2020); settings of the released CIFAR-100-LT configuration.

Two branches share all but the last residual block. The conventional branch sees images of a uniform
sampler, (x_c, y_c), the re-balancing branch those of a reversed one, (x_r, y_r), p_j ~ 1 / n_j
(:mod:`lt_bench.data.bilateral_sampler`). With f_c, f_r the branches' features, in epoch T = 1..T_max

    alpha = 1 - ((T - 1) / T_max)^2,                                 (section 4.3, epochs as the code counts)
    z     = alpha (W_c f_c + b_c) + (1 - alpha) (W_r f_r + b_r),     (eq. 1)
    L     = alpha CE(z, y_c) + (1 - alpha) CE(z, y_r).               (eq. 3)

A test image goes through both branches, alpha = 1/2: the mean of the branches' logits, on the features
[f_c, f_r]. Every branch has batch statistics of its own images, in the trunk too: the trunk runs once for
each branch, as in the released code.

Batches are 128 pairs. Departures: the code's logits are W [2 alpha f_c, 2 (1 - alpha) f_r] + b, that is,
twice the features and one bias that alpha does not weigh; the paper's form is taken, with a bias a branch.
The last batch of an epoch may be short; the code drops it. Where the code trains for 90 or 180 epochs it
takes 100 or 200 for T_max; here T_max is the number of epochs.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.models.expert_head import ExpertHead
from lt_bench.models.experts import expert_backbone
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task

BRANCHES = 2


def cumulative_weight(epoch: int, epochs: int) -> float:
    """alpha = 1 - ((T - 1) / T_max)^2 (section 4.3): 1 in the first epoch, towards 0 in the last.

    Args:
        epoch: T, from 1.
        epochs: T_max.
    """
    return 1 - ((epoch - 1) / epochs) ** 2


def bilateral_loss(logits: Tensor, uniform: Tensor, reversed_: Tensor, alpha: float) -> Tensor:
    """alpha CE(z, y_c) + (1 - alpha) CE(z, y_r), z = alpha z_c + (1 - alpha) z_r (eqs. 1 and 3).

    Args:
        logits: (B, 2, C) of the conventional and the re-balancing branch for B pairs of images.
        uniform: (B,) int64, labels y_c of the uniform sampler's images.
        reversed_: (B,) int64, labels y_r of the reversed sampler's images.
        alpha: in [0, 1].

    Returns:
        A scalar.
    """
    logits = at_least_float32(logits)
    mixed = alpha * logits[:, 0] + (1 - alpha) * logits[:, 1]
    return alpha * F.cross_entropy(mixed, uniform) + (1 - alpha) * F.cross_entropy(mixed, reversed_)


@METHODS.register_module("bbn")
class BBN(Representation):
    """Bilateral branches with cumulative learning.

    Args:
        task: the task.
    """

    sampler = {"type": "bilateral"}
    # The head sees pairs of images, not every image's feature.
    capture = "epoch_end"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.alpha = 1.0

    def build_head(self, feature_dim: int) -> nn.Module:
        """W_c, b_c and W_r, b_r; their mean is the prediction at alpha = 1/2."""
        return ExpertHead(feature_dim, self.task.num_classes, BRANCHES)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """alpha of the epoch."""
        self.alpha = cumulative_weight(epoch, epochs)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of both branches' logits (B, 2, C) for the labels (2B,) of B pairs."""
        return bilateral_loss(logits, labels[0::2], labels[1::2], self.alpha)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """The loss of a batch of pairs.

        Raises:
            LTBenchError: the backbone has not two branches, or the sampler gives no pairs.
        """
        if self.sampler["type"] != "bilateral":
            raise LTBenchError(
                f"bbn is trained on pairs of images, which sampler {self.sampler['type']!r} does not give; "
                "leave method.representation.sampler out"
            )
        backbone = expert_backbone(model.backbone, BRANCHES, "bbn")
        with backbone.interleaved():
            features = model.features(batch.images)
        return self.criterion(model.head(features, each=True), batch.labels)
