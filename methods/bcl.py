"""BCL (Zhu, Wang, Chen, Chen and Jiang, "Balanced Contrastive Learning for Long-Tailed Visual
Recognition", CVPR 2022).

A classifier with compensated logits and a balanced contrastive branch share the backbone:

    L      = λ L_LC + μ L_BCL
    L_LC   = -log softmax(w z + log π)_y                                    on view 1
    L_BCL  = -1/|P_i| Σ_{p ∈ P_i} log( exp(v_i·v_p / τ) / D_i ),  mean over i   on views 2 and 3
    D_i    = Σ_j 1/|B_j \\ i| Σ_{k ∈ B_j \\ i} exp(v_i·v_k / τ)

v is the L2-normalised output of a projection (linear, batch norm, ReLU, linear). B_j holds every
projection of class j in the batch, both views, and the class's prototype c_j, so that every class is in
every batch (*class-complement*); D_i takes the mean within each class and not the sum, so that head
classes do not rule it (*class-averaging*). P_i = B_{y_i} \\ i. Prototypes are learned: a second projection
of the classifier's weights w_j. The anchors i are the images' projections, not the prototypes.

Settings: τ = 0.1, hidden width 512, 128-d projections, λ = 2 and μ = 0.6. These are a choice: they are
the values in use for CIFAR-LT, but no released code confirms them. What is released trains on ImageNet-LT
and iNaturalist 2018 only (its defaults: λ = 1, μ = 0.35, τ = 0.07, hidden width d, 1024-d). Taken from it:
the anchor is left out of its own class, whose divisor becomes one less; both projections have batch norm;
weight decay 5e-4.

Departures:

* Classifier: linear, as everywhere here. The released code takes cosines times 30; ``cosine_scale=30``
  does that.
* Augmentation: view 1 is cropped and flipped as for every other method, views 2 and 3 get colour jitter
  (0.4, 0.4, 0.4, 0.1 with probability 0.8) and greying (probability 0.2) on top; single-channel digits are
  cropped and jittered in brightness and contrast. The paper's view 1 has AutoAugment and Cutout on CIFAR,
  worth about 6 points on CIFAR-100-LT, which are not used here: results do not compare with the paper's.
  (Its views 2 and 3 are random resized crops.)
* Schedule: that of the other methods (the released code's is a cosine).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lt_bench.arguments import finite_number, is_whole
from lt_bench.data.batch import Batch
from lt_bench.errors import LTBenchError
from lt_bench.losses.class_priors import log_prior, prior_cross_entropy
from lt_bench.losses.precision import at_least_float32
from lt_bench.method import Representation
from lt_bench.models.heads import CosineHead
from lt_bench.models.projection import ProjectionMLP
from lt_bench.models.stage_one import StageOneModel
from lt_bench.registry import METHODS
from lt_bench.task import Task

VIEWS = 3


def balanced_contrastive_loss(
    projections: Tensor, labels: Tensor, prototypes: Tensor, temperature: float
) -> Tensor:
    """L_BCL with class-averaging and class-complement (Zhu et al., CVPR 2022).

    Args:
        projections: (A, p) float, of length 1; the anchors, all views of all images.
        labels: (A,) int64, their classes.
        prototypes: (C, p) float, of length 1; row j is c_j.
        temperature: τ, above 0.

    Returns:
        A scalar, the mean over the anchors. It is finite for any batch of at least one anchor: each has
        its class's prototype as a positive.
    """
    projections, prototypes = at_least_float32(projections), at_least_float32(prototypes)
    anchors, classes = len(projections), len(prototypes)
    every_class = torch.arange(classes, device=labels.device)
    contrast_labels = torch.cat([labels, every_class])
    similarity = projections @ torch.cat([projections, prototypes]).T / temperature

    same = labels.unsqueeze(1) == contrast_labels
    itself = torch.eye(anchors, anchors + classes, dtype=torch.bool, device=labels.device)
    sizes = (labels.unsqueeze(1) == every_class).sum(0) + 1
    # |B_j \ i|: the anchor is left out of its own class, of which the prototype at least remains.
    members = sizes.index_select(0, contrast_labels) - same.long()
    averaged = similarity - members.to(similarity.dtype).log()
    log_denominator = averaged.masked_fill(itself, -torch.inf).logsumexp(1)

    positive = same & ~itself
    mean_positive = similarity.masked_fill(~positive, 0).sum(1) / positive.sum(1)
    return (log_denominator - mean_positive).mean()


@METHODS.register_module("bcl")
class BCL(Representation):
    """Logit compensation and balanced contrastive learning on three views of each image.

    Args:
        task: the task.
        classification_weight: λ of L_LC, from 0.
        contrast_weight: μ of L_BCL, from 0.
        temperature: τ, above 0.
        hidden: width of both projections' hidden layer.
        out: p, dimensions of a projection.
        cosine_scale: None for a linear classifier, s for s * cos(z, w_j).

    Raises:
        LTBenchError: a number outside of its range; a class without a training image; while training,
            images without three views.
    """

    capture = "epoch_end"
    prior: Tensor

    def __init__(
        self,
        task: Task,
        classification_weight: float = 2.0,
        contrast_weight: float = 0.6,
        temperature: float = 0.1,
        hidden: int = 512,
        out: int = 128,
        cosine_scale: float | None = None,
    ) -> None:
        super().__init__(task)
        self.classification_weight = finite_number(classification_weight, "bcl's classification_weight")
        self.contrast_weight = finite_number(contrast_weight, "bcl's contrast_weight")
        self.temperature = finite_number(temperature, "bcl's temperature")
        if not self.temperature:
            raise LTBenchError("bcl's temperature is above 0, got 0; the paper's is 0.1")
        for name, value in (("hidden", hidden), ("out", out)):
            if not is_whole(value, 1):
                raise LTBenchError(f"bcl's {name} is a whole number from 1, got {value!r}")
        self.cosine_scale = None
        if cosine_scale is not None:
            self.cosine_scale = finite_number(cosine_scale, "bcl's cosine_scale")
        self.hidden, self.out = hidden, out
        self.register_buffer("prior", log_prior(task.counts), persistent=False)

    def build_head(self, feature_dim: int) -> nn.Module:
        """The classifier (B, d) -> (B, C); the two projections are made with it."""
        self.projection = ProjectionMLP(feature_dim, self.hidden, self.out)
        self.prototype_projection = ProjectionMLP(feature_dim, self.hidden, self.out)
        if self.cosine_scale is not None:
            return CosineHead(feature_dim, self.task.num_classes, self.cosine_scale)
        return super().build_head(feature_dim)

    def criterion(self, logits: Tensor, labels: Tensor) -> Tensor:
        """L_LC: cross-entropy of logits (B, C) + log π for labels (B,)."""
        return prior_cross_entropy(logits, labels, self.prior)

    def forward(self, model: StageOneModel, batch: Batch) -> Tensor:
        """λ L_LC on view 1 and μ L_BCL on views 2 and 3 of images (B, 3, C, H, W): a scalar."""
        images, labels = batch.images, batch.labels
        if images.dim() != 5 or images.shape[1] != VIEWS:
            raise LTBenchError(
                f"bcl trains on {VIEWS} views of each image, got images of shape {tuple(images.shape)}; end "
                "train_transforms with dict(type='batch_views', views=[[...], [...], [...]])"
            )
        # One forward of all views: batch statistics are those of the mixture, as in the released code.
        features = model.features(images.flatten(0, 1)).unflatten(0, (len(labels), VIEWS))
        classification = self.criterion(*batch.gathered(model.head(features[:, 0])))
        weight = model.head.get_parameter("weight")
        # Pairs are of the global batch.
        views, classes = batch.gathered(features[:, 1:])
        contrast = balanced_contrastive_loss(
            self.projection(views.flatten(0, 1)),
            classes.repeat_interleave(VIEWS - 1),
            self.prototype_projection(weight),
            self.temperature,
        )
        return self.classification_weight * classification + self.contrast_weight * contrast
