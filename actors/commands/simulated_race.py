"""A made-up race: participants on a closed course, each at a speed of its own. Some rest, some give up, most finish.

Everything is a function of the seed, the participant's number and the time since the start.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate, pairwise
from random import Random

import attrs

from actors.core.fix import DISQUALIFIED, FINISHED, MOVING, STOPPED

CENTRE = (-7.9456, 112.6145)  # degrees; of the example in README
RADIUS_M = 700.0  # of the loop, on average: a lap is about 5 km
METRES_PER_DEGREE = 111_320.0  # of latitude; of longitude at the equator
CORNERS = 720

SLOWEST_MPS, MEAN_MPS, FASTEST_MPS = 1.8, 3.0, 5.0
ENDLESS_M = 10_000.0  # how far a race without a set duration goes, before it starts anew
REST_SHARE, RETIRED_SHARE, DISQUALIFIED_SHARE = 0.15, 0.06, 0.02
SWITCHED_OFF_S = 120.0
"""A tracker goes on for so long after its participant is done. One who gave up becomes stale then."""


@attrs.frozen
class Sighting:
    """Where a participant is seen, GPS noise included."""

    latitude: float  # degrees, 7 decimals
    longitude: float
    status: int  # index into STATUSES


@attrs.frozen
class _Runner:
    """One participant's nature. Times in seconds since the start, distances in metres, angles in radians."""

    speed_mps: float
    delay_s: float  # from the start to the own start
    rest_at_m: float  # infinite: rests nowhere
    rest_s: float
    ends_at_m: float  # where the race ends for this one
    ends_as: int  # FINISHED, STOPPED (gave up) or DISQUALIFIED
    lane_m: float  # beside the middle of the way
    noise_m: float
    phase: float

    def progress(self, t_s: float) -> tuple[float, int, float]:
        """Metres done, status, and for how many seconds it has been over (negative: it is not)."""
        running_s = max(0.0, t_s - self.delay_s)
        done_m = running_s * self.speed_mps
        status = MOVING
        if done_m > self.rest_at_m:
            rested_s = running_s - self.rest_at_m / self.speed_mps
            if rested_s < self.rest_s:
                done_m, status = self.rest_at_m, STOPPED
            else:
                done_m -= self.rest_s * self.speed_mps
        if done_m < self.ends_at_m:
            return done_m, status, -1.0
        return self.ends_at_m, self.ends_as, (done_m - self.ends_at_m) / self.speed_mps


class Course:
    """The race of `participants` (1 or more). With a duration most finish within it; without one it starts anew."""

    def __init__(self, seed: int, participants: int, duration_s: float | None = None) -> None:
        random = Random(seed)
        waves = [(k, random.uniform(0.02, 0.12), random.uniform(0, math.tau)) for k in (2, 3, 5)]
        self._corners = [_corner(math.tau * step / CORNERS, waves) for step in range(CORNERS + 1)]
        lengths = (math.dist(one, other) for one, other in pairwise(self._corners))
        self._along = [0.0, *accumulate(lengths)]  # metres from the start line to each corner
        self.length_m = ENDLESS_M if duration_s is None else 0.8 * duration_s * MEAN_MPS
        self.cycle_s = math.inf if duration_s is not None else ENDLESS_M / SLOWEST_MPS + 600.0
        self._runners = [_runner(Random(f"{seed} {number}"), self.length_m) for number in range(participants)]

    @property
    def lap_m(self) -> float:
        """Length of the loop."""
        return self._along[-1]

    def name(self, number: int) -> str:
        """`P001`, from 0 up; with as many digits as the last one needs, at least three."""
        return f"P{number + 1:0{max(3, len(str(len(self._runners))))}d}"

    def sighting(self, number: int, t_s: float) -> Sighting | None:
        """Participant `number` (from 0), `t_s` seconds after the start; None once the tracker is switched off."""
        runner = self._runners[number]
        t_s = t_s % self.cycle_s
        done_m, status, over_s = runner.progress(t_s)
        if over_s > SWITCHED_OFF_S:
            return None
        x, y = self._place(done_m % self.lap_m)
        # Slow sines and not white noise: GPS errors wander.
        x += runner.lane_m + runner.noise_m * math.sin(t_s / 7.0 + runner.phase)
        y += runner.lane_m + runner.noise_m * math.sin(t_s / 11.0 + 2.0 * runner.phase)
        latitude = CENTRE[0] + y / METRES_PER_DEGREE
        longitude = CENTRE[1] + x / (METRES_PER_DEGREE * math.cos(math.radians(CENTRE[0])))
        return Sighting(round(latitude, 7), round(longitude, 7), status)

    def _place(self, along_m: float) -> tuple[float, float]:
        """Metres east and north of the centre."""
        index = min(bisect_right(self._along, along_m), CORNERS) - 1
        start, end = self._along[index], self._along[index + 1]
        share = (along_m - start) / (end - start)
        (x0, y0), (x1, y1) = self._corners[index], self._corners[index + 1]
        return x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _corner(angle: float, waves: list[tuple[int, float, float]]) -> tuple[float, float]:
    radius = RADIUS_M * (1 + sum(height * math.cos(k * angle + phase) for k, height, phase in waves))
    return radius * math.cos(angle), radius * math.sin(angle)


def _runner(random: Random, length_m: float) -> _Runner:
    speed = min(FASTEST_MPS, max(SLOWEST_MPS, random.gauss(MEAN_MPS, 0.5)))
    fate = random.random()
    ends_as, share = FINISHED, 1.0
    if fate < RETIRED_SHARE:
        ends_as, share = STOPPED, random.uniform(0.2, 0.9)
    elif fate < RETIRED_SHARE + DISQUALIFIED_SHARE:
        ends_as, share = DISQUALIFIED, random.uniform(0.2, 0.9)
    rests = random.random() < REST_SHARE
    return _Runner(
        speed_mps=speed,
        delay_s=random.uniform(0, 10),
        rest_at_m=random.uniform(0.1, 0.9) * length_m if rests else math.inf,
        rest_s=random.uniform(30, 180),
        ends_at_m=share * length_m,
        ends_as=ends_as,
        lane_m=random.uniform(-3, 3),
        noise_m=random.uniform(0.5, 3),
        phase=random.uniform(0, math.tau),
    )
