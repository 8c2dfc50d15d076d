"""What is left: nothing is guessed, and what is known is laid out over the places."""

from __future__ import annotations

import pytest

from lt_bench.sweep.estimate import Left, duration, estimate

FIRST = {"stage1": 60.0, "other": 20.0}
SECOND = {"stage1": 100.0, "other": 20.0}


def waits(kind: str) -> Left:
    return Left(kind, 1.0, 0.0)


def test_unknown_until_a_job_of_the_kind_is_done() -> None:
    found = estimate([waits("a"), waits("b")], [("c", FIRST)], 2)
    assert found.seconds is None and found.unknown == 2 and "unknown" in str(found)
    found = estimate([waits("a"), waits("b")], [("a", FIRST)], 2)
    assert found.seconds == 80 and found.unknown == 1
    assert "about 1 min" in str(found) and "1 of 2 jobs" in str(found)


def test_mean_of_the_kind_over_the_places() -> None:
    measured = [("a", FIRST), ("a", SECOND)]
    assert estimate([waits("a")] * 3, measured, 1).seconds == pytest.approx(300)
    assert estimate([waits("a")] * 3, measured, 2).seconds == pytest.approx(200)
    assert estimate([waits("a")] * 3, measured, 8).seconds == pytest.approx(100)


def test_a_trained_stage_1_and_time_spent_are_not_left() -> None:
    assert estimate([Left("a", 0.0, 0.0)], [("a", FIRST)], 1).seconds == 20
    assert estimate([Left("a", 1.0, 30.0)], [("a", FIRST)], 1).seconds == 50
    assert estimate([Left("a", 1.0, 500.0)], [("a", FIRST)], 1).seconds == 0


def test_nothing_left() -> None:
    assert str(estimate([], [("a", FIRST)], 2)) == "nothing left"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min"), (3599, "1 h 0 min"), (12000, "3 h 20 min")],
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told
