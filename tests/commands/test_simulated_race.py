"""The made-up race is one that could have been."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from actors.commands.simulated_race import CENTRE, FASTEST_MPS, METRES_PER_DEGREE, SWITCHED_OFF_S, Course, Sighting
from actors.core.fix import DISQUALIFIED, FINISHED, MOVING, STOPPED
from actors.core.ids import normal_id

DURATION_S = 3600.0


def track(course: Course, number: int, until_s: float = DURATION_S * 3, step_s: float = 1.0) -> list[Sighting]:
    """All sightings until the tracker is switched off."""
    found = []
    for tick in range(int(until_s / step_s)):
        sighting = course.sighting(number, tick * step_s)
        if sighting is None:
            break
        found.append(sighting)
    return found


def metres(one: Sighting, other: Sighting) -> float:
    north = (one.latitude - other.latitude) * METRES_PER_DEGREE
    east = (one.longitude - other.longitude) * METRES_PER_DEGREE * math.cos(math.radians(CENTRE[0]))
    return math.hypot(north, east)


def test_the_same_seed_is_the_same_race() -> None:
    def sample(seed: int) -> list[Sighting | None]:
        course = Course(seed, 5, DURATION_S)
        return [course.sighting(number, t_s) for number in range(5) for t_s in (0.0, 17.5, 900.0)]

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)


def test_a_participant_does_not_depend_on_how_many_others_there_are() -> None:
    assert Course(1, 3, DURATION_S).sighting(2, 100.0) == Course(1, 300, DURATION_S).sighting(2, 100.0)


def test_nobody_jumps_and_everybody_stays_on_the_course() -> None:
    course = Course(3, 30, DURATION_S)
    for number in range(30):
        sightings = track(course, number)
        assert max(metres(one, other) for one, other in pairwise(sightings)) < FASTEST_MPS + 2
        away = [metres(one, Sighting(*CENTRE, MOVING)) for one in sightings]
        assert min(away) > 300
        assert max(away) < 1100
        assert all(one.latitude == round(one.latitude, 7) for one in sightings)


def test_the_course_is_closed() -> None:
    course = Course(5, 1, DURATION_S)
    assert math.dist(course._place(0.0), course._place(course.lap_m)) < 1e-6
    assert 4000 < course.lap_m < 6000


def test_some_rest_some_give_up_most_finish() -> None:
    course = Course(11, 200, DURATION_S)
    histories = [[one.status for one in track(course, number, step_s=10.0)] for number in range(200)]
    ends = [history[-1] for history in histories]
    assert ends.count(FINISHED) > 150
    assert 2 <= ends.count(STOPPED) <= 40
    assert 1 <= ends.count(DISQUALIFIED) <= 15
    rested = [history for history in histories if STOPPED in history and history[-1] == FINISHED]
    assert 10 <= len(rested) <= 60
    for history in histories:
        changes = [one for one, other in pairwise([*history, None]) if one != other]
        assert changes in ([MOVING, changes[-1]], [MOVING, STOPPED, MOVING, changes[-1]])


def test_most_finish_within_the_duration() -> None:
    course = Course(2, 200, DURATION_S)
    sightings = [course.sighting(number, DURATION_S) for number in range(200)]
    done = [sighting is None or sighting.status != MOVING for sighting in sightings]
    assert 0.6 < sum(done) / 200 < 1.0


def test_a_tracker_is_switched_off_in_the_end() -> None:
    course = Course(4, 1, DURATION_S)
    statuses = [one.status for one in track(course, 0)]
    after = statuses[len(statuses) - statuses[::-1].index(MOVING) :]
    assert len(after) == pytest.approx(SWITCHED_OFF_S, abs=2)
    assert course.sighting(0, DURATION_S * 100) is None


def test_without_a_duration_the_race_starts_anew() -> None:
    course = Course(4, 10)
    for number in range(10):
        assert course.sighting(number, course.cycle_s - 1.0) is None
        assert course.sighting(number, course.cycle_s + 50.0) == course.sighting(number, 50.0)


@pytest.mark.parametrize(("participants", "first", "last"), [(1, "P001", "P001"), (1500, "P0001", "P1500")])
def test_names_are_valid_ids_of_one_length(participants: int, first: str, last: str) -> None:
    course = Course(1, participants)
    assert (course.name(0), course.name(participants - 1)) == (first, last)
    assert normal_id(last) == last
