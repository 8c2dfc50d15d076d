"""How many jobs fit: by what those before took of the memory, on a clock and a memory of the test's own."""

from __future__ import annotations

import pytest

from lt_bench.sweep import room
from lt_bench.sweep.room import MARGIN, SAMPLE_SECONDS, SETTLE_SECONDS, FittingPlaces, FixedPlaces


class Machine:
    """Devices of 100 bytes, of which each running job has its part."""

    def __init__(self, jobs: int, gpus: list[str], cores: int, part: float) -> None:
        self.time, self.part, self.reads = 0.0, part, 0
        self.running = [0] * max(1, len(gpus))
        self.places = FittingPlaces(jobs, gpus, cores, self.free, lambda: self.time)
        self.taken: list[room.Place] = []

    def free(self, index: int) -> int:
        self.reads += 1
        return int(100 - self.part * self.running[index])

    def start(self, after: float = SETTLE_SECONDS) -> room.Place | None:
        self.time += after
        place = self.places.take()
        if place is not None:
            self.taken.append(place)
            self.running[place.device] += 1
        return place

    def end(self, whole: bool = True) -> None:
        place = self.taken.pop(0)
        self.running[place.device] -= 1
        self.places.give_back(place, whole=whole)


def test_fixed_places() -> None:
    def environments(places: FixedPlaces) -> list[dict[str, str]]:
        taken = []
        while (place := places.take()) is not None:
            taken.append(place)
        assert taken[0] == taken[0] and places.take() is None
        places.give_back(taken[0], whole=True)
        assert places.take() == taken[0]
        return [place.environment for place in taken]

    assert [e["OMP_NUM_THREADS"] for e in environments(FixedPlaces(3, [], 8))] == ["2", "2", "2"]
    (alone,) = environments(FixedPlaces(1, [], 0))
    assert "CUDA_VISIBLE_DEVICES" not in alone and alone["OMP_NUM_THREADS"] == "1"
    devices = [e["CUDA_VISIBLE_DEVICES"] for e in environments(FixedPlaces(3, ["4", "GPU-a"], 8))]
    assert devices == ["4", "GPU-a", "4"]
    orders = {e["CUDA_DEVICE_ORDER"] for e in environments(FixedPlaces(3, ["4", "GPU-a"], 8))}
    assert orders == {"PCI_BUS_ID"}


def test_jobs_of_another_call_fill_places() -> None:
    places = FixedPlaces(2, [], 2)
    places.others = 1
    assert places.take() is not None and places.take() is None
    places.others = 0
    assert places.take() is not None
    machine = Machine(20, [], 3, 10)
    machine.places.others = 2
    assert [machine.start() is not None for _ in range(3)] == [True, False, False]
    machine.places.others = 0
    assert machine.start() is not None


@pytest.mark.parametrize(("part", "fit"), [(20, 4), (30, 2), (60, 1), (99, 1), (10, 9)])
def test_jobs_join_while_there_is_room(part: float, fit: int) -> None:
    """A next one needs MARGIN times its part free: with 30 of 100, 70 and 40 are left for 45."""
    machine = Machine(20, [], 16, part)
    assert sum(machine.start() is not None for _ in range(30)) == fit
    assert 100 - part * (fit - 1) >= MARGIN * part or fit == 1
    machine.end()
    assert machine.start() is not None and machine.start() is None


def test_the_first_runs_alone_until_its_part_is_seen() -> None:
    machine = Machine(20, [], 16, 10)
    assert machine.start(0) is not None
    started = machine.time
    while machine.start(1) is None:
        pass
    assert SETTLE_SECONDS <= machine.time - started <= SETTLE_SECONDS + SAMPLE_SECONDS
    assert machine.reads <= 2 + SETTLE_SECONDS / SAMPLE_SECONDS, "memory is not read at every look"


def test_one_that_has_not_come_to_the_device_tells_nothing() -> None:
    machine = Machine(20, ["0"], 16, 0)
    assert machine.start() is not None
    assert machine.start(2 * SETTLE_SECONDS) is None
    machine.part = 30
    assert machine.start(SAMPLE_SECONDS) is None
    assert machine.start(SETTLE_SECONDS) is not None


def test_on_a_processor_a_small_one_counts_from_its_start() -> None:
    machine = Machine(20, [], 16, 0)
    assert machine.start() is not None
    assert machine.start() is not None, "next to nothing, and seen for long enough"


def test_one_that_has_ended_is_known() -> None:
    """Jobs of seconds are side by side as soon as the first was seen; those that have only begun count."""
    machine = Machine(20, [], 16, 20)
    assert machine.start(0) is not None and machine.start(SAMPLE_SECONDS) is None
    machine.end()
    machine.part = 0.1
    assert [machine.start(SAMPLE_SECONDS) is not None for _ in range(6)] == [True] * 4 + [False] * 2
    unseen = Machine(20, [], 16, 20)
    unseen.start(0)
    assert unseen.start(SAMPLE_SECONDS) is None
    unseen.end(whole=False)
    assert unseen.start(0) is not None and unseen.start(SAMPLE_SECONDS) is None


def test_a_peak_that_has_passed_counts() -> None:
    machine = Machine(20, [], 16, 70)
    machine.start()
    assert machine.start(SAMPLE_SECONDS) is None
    machine.part = 5
    assert machine.start() is None, "another may need 70 at once"


def test_no_more_than_cores_and_jobs_and_cores_are_divided() -> None:
    machine = Machine(20, [], 3, 1)
    places = [machine.start() for _ in range(6)]
    assert [place is not None for place in places] == [True] * 3 + [False] * 3
    assert places[0].environment["OMP_NUM_THREADS"] == "1"
    assert Machine(2, [], 9, 1).start().environment["OMP_NUM_THREADS"] == "4"


def test_memory_that_cannot_be_read_has_no_room() -> None:
    machine = Machine(20, [], 16, 10)
    machine.start()
    machine.places._free = lambda index: None
    assert machine.start() is None
    machine.end()
    assert machine.start() is not None and machine.start() is None, "one at a time goes on"


def test_gpus_are_filled_evenly() -> None:
    machine = Machine(20, ["7", "GPU-b"], 16, 30)
    names = [
        place.environment["CUDA_VISIBLE_DEVICES"] for place in filter(None, map(machine.start, [60] * 9))
    ]
    assert sorted(names[:2]) == ["7", "GPU-b"] and sorted(names) == ["7", "7", "GPU-b", "GPU-b"]
    assert Machine(20, ["0", "1", "2"], 1, 30).places.at_most == 3
