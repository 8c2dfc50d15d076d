"""What a loader of training batches is asked, whatever it makes them of: for an epoch, and a place in it."""

from __future__ import annotations

from lt_bench.data.draws import ShareGenerator
from lt_bench.data.place import LoaderPlace
from lt_bench.data.samplers import EpochSampler, check_sampler
from lt_bench.seeding import derive_seed


class TrainingEpochs:
    """The epochs of a sampler, and where the next iteration starts.

    Args:
        sampler: decides the order; its epoch is the loader's.
        seed: of the run; augmentation draws from (seed, epoch) for the global batch.
        count: images of the training split.

    Raises:
        LTBenchError: a sampler made for another number of images.
    """

    _generator: ShareGenerator

    def __init__(self, sampler: EpochSampler, seed: int, count: int) -> None:
        check_sampler(sampler, count)
        self.sampler, self.seed = sampler, int(seed)
        self._place = LoaderPlace(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iteration shows next, counted from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.sampler)

    def place(self, batches: int) -> LoaderPlace:
        """Where the epoch in progress is after ``batches`` batches."""
        return LoaderPlace(batches, self._generator.get_state())

    def go_on_from(self, place: LoaderPlace) -> None:
        """Let the next iteration, and that one only, start at ``place`` of its epoch."""
        self._place = place

    def _begin(self) -> LoaderPlace:
        """Bring the draws to where an iteration that begins now starts."""
        place, self._place = self._place, LoaderPlace(0)
        # A rank has no seed of its own: all draw for the global batch.
        place.seed(self._generator, derive_seed("augmentation", self.seed, self.sampler.epoch, 0))
        return place
