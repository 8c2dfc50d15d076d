"""Parts add up to the whole, by the host's clock and by one that runs behind the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_bench.timing import STAGE1_PARTS, STAGE2_PARTS, PartTimes, breakdown


class Device:
    """A device with a queue: a mark passes once all work that was queued before it is done."""

    name = "device"

    def __init__(self) -> None:
        self.host = self.done_at = self.waited = 0.0

    def work(self, host: float, device: float) -> None:
        """The host takes a while to queue what takes the device another while."""
        self.host += host
        self.done_at = max(self.done_at, self.host) + device

    def now(self) -> float:
        return max(self.host, self.done_at)

    def passed(self, mark: float) -> bool:
        return mark <= self.host

    def wait(self, mark: float) -> None:
        self.waited += max(0.0, mark - self.host)
        self.host = max(self.host, mark)

    def between(self, start: float, end: float) -> float:
        return end - start


class Ticks(Device):
    """A clock that is moved by hand."""

    name = "ticks"

    def tick(self, seconds: float) -> None:
        self.work(seconds, 0.0)


def test_a_second_counts_for_the_innermost_part_alone() -> None:
    clock = Ticks()
    times = PartTimes(clock=clock)
    clock.tick(1)
    with times.part("forward"):
        clock.tick(2)
        with times.part("snapshots"):
            clock.tick(4)
        clock.tick(8)
    clock.tick(16)
    with times.part("forward"):
        clock.tick(32)
        assert times.seconds() == {"forward": 42, "snapshots": 4}, "an open part is counted so far"
    assert breakdown(times.seconds(), 63) == {"forward": 42, "snapshots": 4, "other": 17}


def test_what_it_takes_to_get_each_item_is_a_part() -> None:
    clock = Ticks()
    times = PartTimes(clock=clock)

    def items():
        for item in range(3):
            clock.tick(1)
            yield item
        clock.tick(5)

    seen = []
    for item in times.each("data", items()):
        clock.tick(10)
        seen.append(item)
    assert seen == [0, 1, 2]
    assert times.seconds() == {"data": 8}


def test_a_part_that_fails_is_closed() -> None:
    clock = Ticks()
    times = PartTimes(clock=clock)
    with pytest.raises(RuntimeError), times.part("io"):
        clock.tick(1)
        raise RuntimeError
    clock.tick(1)
    assert times.seconds() == {"io": 1}


def test_earlier_calls_are_added() -> None:
    clock = Ticks()
    times = PartTimes(clock=clock)
    with times.part("io"):
        clock.tick(1)
    times.add({"io": 2, "data": 3})
    assert times.seconds() == {"io": 3, "data": 3}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=2000)
)
def test_a_device_behind_the_host_is_never_waited_for_in_a_step(steps) -> None:
    """Each part is the device's time from the mark before it to the mark behind it, idling included."""
    clock = Device()
    times = PartTimes(clock=clock)
    expected = dict.fromkeys("abc", 0.0)
    for name, host, device in steps:
        before = clock.now()
        with times.part(name):
            clock.work(host, device)
        expected[name] += clock.now() - before
    assert clock.waited == 0
    end = clock.now()
    found = times.seconds()
    assert clock.host == end, "only the last reading waits"
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-9)
    assert breakdown(found, end)["other"] == pytest.approx(end - sum(expected.values()), abs=1e-9)


def test_marks_are_not_kept_for_ever() -> None:
    clock = Ticks()
    times = PartTimes(clock=clock)
    for _ in range(5000):
        with times.part("data"):
            clock.tick(1)
    assert len(times._marks) < 600
    assert times.seconds() == {"data": 5000}


def test_parts_of_two_clocks_that_disagree_are_scaled_to_the_whole() -> None:
    assert breakdown({"a": 3.0, "b": 1.0}, 2.0) == {"a": 1.5, "b": 0.5, "other": 0.0}
    assert breakdown({}, 2.0) == {"other": 2.0}
    assert breakdown({"a": 0.0}, 0.0) == {"a": 0.0, "other": 0.0}


def test_every_part_is_explained() -> None:
    for parts in (STAGE1_PARTS, STAGE2_PARTS):
        assert list(parts)[-1] == "other"
        assert all(parts.values())
