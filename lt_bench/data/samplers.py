"""Which images an epoch shows, and in what order.

Every sampler gives the *global* order of an epoch as a pure function of (seed, epoch): a run
that is resumed, or that has another number of ranks, sees the same images in the same batches.
Sources: instance, square-root and progressive sampling are p_j proportional to n_j^q of Kang
et al. (2020), section 4; class-aware sampling is that of their released code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_bench.data.images import check_labels
from lt_bench.data.random_keys import random_keys
from lt_bench.data.share import Share
from lt_bench.errors import LTBenchError
from lt_bench.registry import DATA_SAMPLERS
from lt_bench.seeding import derive_seed


class EpochSampler(ABC):
    """The base of all samplers; also serves as ``batch_sampler`` of a torch DataLoader.

    Args:
        labels: (N,) int64 training labels.
        num_classes: C.
        batch_size: images in a *global* batch, over all ranks.
        seed: of the run.
        epochs: how many epochs the run has (progressive sampling depends on it).
        rank: of this process.
        world: number of processes.

    Raises:
        LTBenchError: a label out of range, a class without a sample, a batch smaller than
            ``world``, or a rank outside of it.
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        num_classes: int,
        batch_size: int,
        seed: int,
        epochs: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        labels = labels.cpu()
        check_labels(labels, num_classes, "the samples to draw from")
        counts = torch.bincount(labels, minlength=num_classes)
        if bool((counts == 0).any()):
            raise LTBenchError(
                f"class {int((counts == 0).nonzero()[0])} has no training sample to draw; "
                "add one or remove the class"
            )
        if epochs < 1:
            raise LTBenchError(f"epochs must be 1 or more, got {epochs}")
        if not 0 <= rank < world:
            raise LTBenchError(f"rank must be in 0 to {world - 1} for {world} ranks, got {rank}")
        if min(batch_size, len(labels)) < world:
            raise LTBenchError(
                f"{world} ranks need a global batch_size and a training split of {world} images "
                f"or more, got batch_size={batch_size} and {len(labels)} images"
            )
        self.labels, self.num_classes = labels, num_classes
        self.counts: NDArray[np.int64] = counts.numpy()
        self.batch_size, self.epochs = batch_size, epochs
        # NumPy's integers would name another stream than Python's.
        self.seed = int(seed)
        self.rank, self.world = rank, world
        self.epoch = 0

    @cached_property
    def _members(self) -> NDArray[np.int64]:
        """(N,) positions sorted by class, ascending in each."""
        return np.argsort(self.labels.numpy(), kind="stable")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """(C,) where each class starts among the members."""
        return np.cumsum(self.counts) - self.counts

    @abstractmethod
    def epoch_indices(self, epoch: int) -> Tensor:
        """The global order of one epoch.

        Args:
            epoch: counted from 0, as MMEngine counts.

        Returns:
            (M,) int64 on the CPU, positions in the training split; M is :attr:`draws`.
        """

    @property
    def draws(self) -> int:
        """M, the images an epoch shows: N unless a sampler says otherwise."""
        return len(self.labels)

    def rank_batches(self, epoch: int) -> list[Tensor]:
        """This rank's share of every global batch of an epoch, as views of one tensor.

        Batch k of rank r is ``order[k * B : (k + 1) * B][r :: world]``. All ranks have the same
        number of batches, and together they are exactly the epoch. A last batch of fewer images
        than ranks leaves the ranks behind them with none.
        """
        return self.shares(self.epoch_indices(epoch))

    def shares(self, order: Tensor) -> list[Tensor]:
        """Cut a global order (M,) into this rank's batches."""
        own, sizes = order[self.rank_places()], self.rank_sizes()
        return list(own.split(sizes))

    def rank_places(self) -> Tensor:
        """(m,) int64: which places of the global order fall to this rank, batch after batch."""
        bounds = self._bounds()
        places = [
            torch.arange(min(start + self.rank, stop), stop, self.world)
            for start, stop in zip(bounds, bounds[1:], strict=False)
        ]
        return torch.cat(places)

    def rank_sizes(self) -> list[int]:
        """Images of each of this rank's batches."""
        bounds = self._bounds()
        return [
            len(range(start + self.rank, stop, self.world))
            for start, stop in zip(bounds, bounds[1:], strict=False)
        ]

    def rank_shares(self, device: torch.device | str = "cpu") -> list[Share]:
        """This rank's share of every global batch; what it is of is on ``device``."""
        bounds, sizes = self._bounds(), self.rank_sizes()
        starts = torch.tensor(bounds[:-1]).repeat_interleave(torch.tensor(sizes))
        places = (self.rank_places() - starts).to(device).split(sizes)
        totals = [stop - start for start, stop in zip(bounds, bounds[1:], strict=False)]
        return [Share(own, total, self.world) for own, total in zip(places, totals, strict=True)]

    def _bounds(self) -> list[int]:
        """Where the global batches start and end, whatever the number of ranks; the last may be short."""
        return [*range(0, self.draws, self.batch_size), self.draws]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iteration shows next, counted from 0."""
        if epoch < 0:
            raise LTBenchError(f"an epoch is 0 or more, got {epoch}")
        self.epoch = int(epoch)

    def __len__(self) -> int:
        """Batches an epoch, the same on every rank."""
        return len(self._bounds()) - 1

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.rank_batches(self.epoch):
            yield batch.tolist()


@DATA_SAMPLERS.register_module(name="instance")
class InstanceSampler(EpochSampler):
    """Image-balanced: every training image once an epoch, shuffled."""

    def epoch_indices(self, epoch: int) -> Tensor:
        """(N,) int64, a permutation."""
        keys = random_keys(
            derive_seed("instance", self.seed, int(epoch)),
            np.arange(len(self.labels), dtype=np.int64),
        )
        return torch.from_numpy(np.argsort(keys, kind="stable").astype(np.int64))


@DATA_SAMPLERS.register_module(name="class_aware")
class ClassAwareSampler(EpochSampler):
    """Class-balanced: a shuffled cycle of classes, a few images of each a visit.

    The released code of Kang et al. (2020) goes round a shuffled list of classes, takes
    ``per_visit`` images from the shuffled cycle of the class it is at, and shuffles each list
    anew when it is used up; an epoch is floor(N / batch) full batches. The cycles run on
    from epoch to epoch, so a run is one endless sequence of draws of which each epoch is a
    section; here a section is computed from its number alone, without those before it.

    Args:
        labels: (N,) int64 training labels.
        per_visit: images a class visit.
        **common: see :class:`EpochSampler`.

    Raises:
        LTBenchError: ``per_visit`` below 1, fewer samples than a batch, or what the base refuses.
    """

    def __init__(self, labels: Tensor, *, per_visit: int = 4, **common: Any) -> None:
        super().__init__(labels, **common)
        if per_visit < 1:
            raise LTBenchError(f"class_aware: per_visit must be 1 or more, got {per_visit}")
        if self.draws == 0:
            raise LTBenchError(
                f"class_aware makes full batches only, and {len(labels)} samples do not fill one "
                f"of {self.batch_size}; lower batch_size"
            )
        self.per_visit = per_visit

    @property
    def draws(self) -> int:
        """M = floor(N / B) * B."""
        return len(self.labels) // self.batch_size * self.batch_size

    def epoch_indices(self, epoch: int) -> Tensor:
        """(M,) int64, the draws numbered from epoch * M of the endless sequence."""
        visit, within = np.divmod(np.arange(epoch * self.draws, (epoch + 1) * self.draws), self.per_visit)
        cycle, turn = np.divmod(visit, self.num_classes)
        first, last = int(cycle[0]), int(cycle[-1])
        class_orders = np.argsort(
            random_keys(
                derive_seed("class_aware classes", self.seed),
                np.arange(first, last + 1)[:, None],
                np.arange(self.num_classes)[None],
            ),
            axis=1,
            kind="stable",
        )
        label = class_orders[cycle - first, turn]
        # A class is visited once a cycle, so cycle and place in the visit number its draws.
        own_cycle, place = np.divmod(cycle * self.per_visit + within, self.counts[label])
        members = self._shuffled(
            label, own_cycle, place, first * self.per_visit, (last + 1) * self.per_visit - 1
        )
        return torch.from_numpy(members)

    def _shuffled(
        self,
        label: NDArray[np.int64],
        own_cycle: NDArray[np.int64],
        place: NDArray[np.int64],
        first_draw: int,
        last_draw: int,
    ) -> NDArray[np.int64]:
        """The image at ``place`` of the ``own_cycle``-th shuffle of class ``label``, each (M,).

        All shuffles that a class's draws ``first_draw`` to ``last_draw`` touch lie side by side
        in one array, which one sort shuffles within its (class, cycle) groups: no loop over
        classes, and at most M + 2 C per_visit + 2N entries.
        """
        first_cycle = first_draw // self.counts
        lengths = (last_draw // self.counts - first_cycle + 1) * self.counts
        starts = np.cumsum(lengths) - lengths
        of_class = np.repeat(np.arange(self.num_classes), lengths)
        size = self.counts[of_class]
        offset = np.arange(len(of_class)) - starts[of_class]
        group, slot = np.divmod(offset, size)
        keys = random_keys(
            derive_seed("class_aware images", self.seed),
            of_class,
            first_cycle[of_class] + group,
            slot,
        )
        shuffled = slot[np.lexsort((keys, group, of_class))]
        at = starts[label] + (own_cycle - first_cycle[label]) * self.counts[label] + place
        return self._members[self._starts[label] + shuffled[at]]


class ClassProbabilitySampler(EpochSampler):
    """N draws with replacement: a class by its probability, then one of its images.

    A sampler derived from it says only what the probabilities are.
    """

    @abstractmethod
    def class_probabilities(self, epoch: int) -> NDArray[np.float64]:
        """(C,) probabilities of the classes in an epoch, which sum to 1."""

    def epoch_indices(self, epoch: int) -> Tensor:
        """(N,) int64 independent draws."""
        numbers = np.arange(self.draws)
        bounds = np.cumsum(self.class_probabilities(epoch))
        seed = derive_seed("weighted", self.seed, int(epoch))
        # The top 53 bits of a key make a double in [0, 1).
        class_draw, image_draw = (
            (random_keys(seed, numbers, np.asarray(which)) >> np.uint64(11)) * 2.0**-53 for which in (0, 1)
        )
        label = np.searchsorted(bounds, class_draw * bounds[-1], side="right")
        label = np.minimum(label, self.num_classes - 1)
        within = (image_draw * self.counts[label]).astype(np.int64)
        return torch.from_numpy(self._members[self._starts[label] + within])


@DATA_SAMPLERS.register_module(name="square_root")
class SquareRootSampler(ClassProbabilitySampler):
    """p_j proportional to the square root of n_j (Kang et al., 2020, eq. 1 with q = 1/2)."""

    def class_probabilities(self, epoch: int) -> NDArray[np.float64]:
        """(C,) the same in every epoch."""
        weights = np.sqrt(self.counts.astype(np.float64))
        return weights / weights.sum()


@DATA_SAMPLERS.register_module(name="progressive")
class ProgressiveSampler(ClassProbabilitySampler):
    """From image-balanced to class-balanced: (1 - t/T) n_j / N + (t/T) / C (ibid., eq. 2)."""

    def class_probabilities(self, epoch: int) -> NDArray[np.float64]:
        """(C,) with t the epoch counted from 0 and T the number of epochs."""
        progress = min(epoch / self.epochs, 1.0)
        image_balanced = self.counts / self.counts.sum()
        mixed: NDArray[np.float64] = (1 - progress) * image_balanced + progress / self.num_classes
        return mixed


def build_sampler(cfg: dict[str, Any], labels: Tensor, **common: Any) -> EpochSampler:
    """Build a sampler by name.

    Args:
        cfg: ``dict(type="class_aware", per_visit=4)``, say.
        labels: (N,) int64 training labels.
        **common: ``num_classes``, ``batch_size``, ``seed``, ``epochs``, ``rank``, ``world``.

    Raises:
        LTBenchError: an unknown name or argument, or what the sampler refuses.
    """
    sampler = DATA_SAMPLERS.build({**cfg, "labels": labels, **common})
    if not isinstance(sampler, EpochSampler):
        raise LTBenchError(f"sampler {cfg['type']!r} is no EpochSampler; derive it from that class")
    return sampler


def check_sampler(sampler: EpochSampler, count: int) -> None:
    """Refuse a sampler that was made for another number of images."""
    if len(sampler.labels) != count:
        raise LTBenchError(
            f"the sampler was made for {len(sampler.labels)} images, the split has {count}; "
            "build it from the labels of this split"
        )
