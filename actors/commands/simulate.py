"""`supervisor.py simulate`: publishes a made-up race over MQTT. `demo` runs the same beside the daemon."""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator

import attrs
import msgspec
import trio

from actors.commands.publisher import Outlet, Produce, Topics, publish
from actors.core.course import Course
from actors.core.fix import STATUSES
from actors.core.judge import normal_id
from actors.core.timestamps import format_ms
from actors.drivers.publisher import open_publisher
from actors.settings import Settings

MAX_PARTICIPANTS = 100_000
MAX_RATE_HZ = 100.0

_encoder = msgspec.json.Encoder()


def wall_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


@attrs.frozen
class Race:
    """The race to make up."""

    race_id: str
    participants: int
    rate_hz: float  # fixes a second of each participant
    duration_s: float | None  # None: without end
    seed: int

    def schedule(self) -> Iterator[tuple[float, int]]:
        """(seconds since the start, participant from 0), in order; the participants take turns within each period."""
        period_s = 1 / self.rate_hz
        step_s = period_s / self.participants
        turn = 0
        while True:
            start_s = turn * period_s
            if self.duration_s is not None and start_s >= self.duration_s:
                return
            for number in range(self.participants):
                yield start_s + number * step_s, number
            turn += 1


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "simulate",
        help="publish a made-up race",
        description="Publishes a made-up race at QoS 1: participants on a closed course, each at a speed of its own; "
        "some rest, some give up, most finish. Ends when the broker has acknowledged all of it; Ctrl-C ends it early.",
    )
    parser.add_argument("--participants", type=_participants, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--rate-hz", type=_rate, default=1.0, metavar="HZ", help="fixes a second of each participant (default: 1)"
    )
    parser.add_argument(
        "--duration-s",
        type=_duration,
        default=None,
        metavar="S",
        help="seconds; most participants finish within it (default: without end, the race starts anew after a while)",
    )
    parser.add_argument("--race", type=_race, default="R-simulated", metavar="R", help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="the same race again for the same seed (default: any)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when everything that was published was acknowledged, also after Ctrl-C; else 1."""
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    race = Race(args.race, args.participants, args.rate_hz, args.duration_s, seed)
    outcome = publish("simulate", settings, running(race, Topics.of(settings.mqtt), wall_ms), None)
    return 0 if outcome.acknowledged == outcome.published else 1


async def simulate(
    settings: Settings,
    *,
    participants: int,
    rate_hz: float,
    duration_s: float | None,
    race_id: str,
    seed: int,
    clock: Callable[[], int] = wall_ms,
) -> None:
    """Publish a made-up race until it is over and acknowledged, or until cancelled. For `demo`.

    Waits for a broker that is not up yet, for some seconds, and for one that goes away, without end.
    Raises PublishFailed.
    """
    race = Race(race_id, participants, rate_hz, duration_s, seed)
    async with open_publisher(settings.mqtt) as publisher:
        await running(race, Topics.of(settings.mqtt), clock)(publisher)
        await publisher.drain()


def running(race: Race, topics: Topics, clock: Callable[[], int]) -> Produce:
    """The work of `publish`: each fix when it is due, stamped with the time it was due at, as a phone would."""

    async def produce(outlet: Outlet) -> None:
        course = Course(race.seed, race.participants, race.duration_s)
        started, started_ms = trio.current_time(), clock()
        for at_s, number in race.schedule():
            if started + at_s > trio.current_time():
                await trio.sleep_until(started + at_s)
            sighting = course.sighting(number, at_s)
            if sighting is None:
                continue
            participant_id = course.name(number)
            payload = {
                "participant_id": participant_id,
                "race_id": race.race_id,
                "latitude": sighting.latitude,
                "longitude": sighting.longitude,
                "timestamp": format_ms(started_ms + round(at_s * 1000)),
                "status": STATUSES[sighting.status],
            }
            await outlet.publish(topics.topic(participant_id, race.race_id), _encoder.encode(payload))

    return produce


def _number(text: str, low: float, high: float, allowed: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"'{text}': allowed is {allowed}")
    return value


def _participants(text: str) -> int:
    value = _number(text, 1, MAX_PARTICIPANTS, allowed := f"a whole number from 1 to {MAX_PARTICIPANTS}")
    if value != int(value):
        raise argparse.ArgumentTypeError(f"'{text}': allowed is {allowed}")
    return int(value)


def _rate(text: str) -> float:
    return _number(text, 0.001, MAX_RATE_HZ, f"a number from 0.001 to {MAX_RATE_HZ:g}")


def _duration(text: str) -> float:
    return _number(text, 0.001, 31_536_000, "a number of seconds above 0, at most a year")


def _race(text: str) -> str:
    race_id = normal_id(text)
    if race_id is None:
        allowed = "1 to 50 letters, digits, . _ - @, the first a letter or digit"
        raise argparse.ArgumentTypeError(f"'{text}': allowed are {allowed}")
    return race_id
