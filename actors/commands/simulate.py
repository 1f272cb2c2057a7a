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

from actors.commands.arguments import race_id
from actors.commands.publisher import Outlet, Produce, Topics, publish, say
from actors.commands.simulated_race import Course
from actors.commands.unreceipted import Kept
from actors.core.fix import STATUSES
from actors.core.timestamps import format_ms
from actors.mqtt.publisher import open_publisher
from actors.settings.load import Settings

MAX_PARTICIPANTS = 100_000
MAX_RATE_HZ = 100.0
PATIENCE_S = 10.0
"""How long a tracker that keeps its fixes waits for a receipt, unless told otherwise."""

_encoder = msgspec.json.Encoder()


def wall_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000


@attrs.frozen
class SimulatedRace:
    """The race to make up."""

    race_id: str
    participants: int
    rate_hz: float  # fixes a second of each participant
    duration_s: float | None  # None: without end
    seed: int

    def schedule(self, from_s: float = 0.0) -> Iterator[tuple[float, int]]:
        """(seconds since the start, participant from 0), in order; the participants take turns within each period."""
        period_s = 1 / self.rate_hz
        step_s = period_s / self.participants
        turn = math.ceil(from_s / period_s)
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
    parser.add_argument("--participants", type=participant_count, default=20, metavar="N", help="default: %(default)s")
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
    parser.add_argument("--race", type=race_id, default="R-simulated", metavar="R", help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="the same race again for the same seed (default: any)"
    )
    parser.add_argument(
        "--keep-until-receipt",
        type=_patience,
        nargs="?",
        const=PATIENCE_S,
        default=None,
        metavar="S",
        help="trackers keep each fix until its receipt, send it again when there is none after S seconds "
        f"(default: {PATIENCE_S:g}), and the command ends when every fix has one; needs [mqtt] receipt_topic",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when everything that was published was acknowledged, or has its receipt, also after Ctrl-C; else 1."""
    seed = random.randrange(1_000_000) if args.seed is None else args.seed
    race = SimulatedRace(args.race, args.participants, args.rate_hz, args.duration_s, seed)
    topics = Topics.of(settings.mqtt)
    if args.keep_until_receipt is None:
        outcome = publish("simulate", settings, running(race, topics, wall_ms), None)
        return 0 if outcome.acknowledged == outcome.published else 1
    if not settings.mqtt.receipt_topic:
        say("simulate: --keep-until-receipt needs [mqtt] receipt_topic: nobody would send receipts")
        return 2
    keeper = Keeper(Kept(args.keep_until_receipt))
    publish("simulate", settings, running(race, topics, wall_ms, keeper), None, keeper.take_receipt)
    kept = keeper.kept
    say(f"simulate: {kept.sent_again:,} sent again, {kept.rejected:,} rejected, {len(kept):,} left without a receipt")
    return 1 if kept else 0


async def simulate(
    settings: Settings,
    *,
    participants: int,
    rate_hz: float,
    duration_s: float | None,
    race_id: str,
    seed: int,
    clock: Callable[[], int] = wall_ms,
    started_ms: int | None = None,
) -> None:
    """Publish a made-up race until it is over and acknowledged, or until cancelled. For `demo`.

    One that started before now (Unix ms) goes on from where it would be.
    Waits for a broker that is not up yet, for some seconds, and for one that goes away, without end.
    Raises PublishFailed.
    """
    race = SimulatedRace(race_id, participants, rate_hz, duration_s, seed)
    async with open_publisher(settings.mqtt) as publisher:
        await running(race, Topics.of(settings.mqtt), clock, started_ms=started_ms)(publisher)
        await publisher.drain()


@attrs.define(eq=False)
class Keeper:
    """Trackers that keep what they sent until its receipt."""

    kept: Kept
    _answered: trio.Event = attrs.field(factory=trio.Event)

    def take_receipt(self, payload: bytes) -> None:
        """One has come."""
        self.kept.forget(payload)
        self._answered.set()
        self._answered = trio.Event()

    async def sleep_until(self, due: float, outlet: Outlet) -> None:
        """Send again what has to be, until then."""
        while trio.current_time() < due:
            await trio.sleep_until(min(due, self.kept.next_due))
            await self._send_again(outlet)

    async def finish(self, outlet: Outlet) -> None:
        """Until there is a receipt for everything."""
        while self.kept:
            with trio.move_on_at(self.kept.next_due):
                await self._answered.wait()
            await self._send_again(outlet)

    async def _send_again(self, outlet: Outlet) -> None:
        for topic, payload in self.kept.take_due(trio.current_time()):
            await outlet.publish(topic, payload)


def running(
    race: SimulatedRace,
    topics: Topics,
    clock: Callable[[], int],
    keeper: Keeper | None = None,
    started_ms: int | None = None,  # Unix ms, not after now; None: now
) -> Produce:
    """The work of `publish`: each fix when it is due, stamped with the time it was due at, as a phone would."""

    async def produce(outlet: Outlet) -> None:
        course = Course(race.seed, race.participants, race.duration_s)
        now_ms = clock()
        began_ms = now_ms if started_ms is None else started_ms
        under_way_s = (now_ms - began_ms) / 1000
        started = trio.current_time() - under_way_s
        for at_s, number in race.schedule(under_way_s):
            if started + at_s > trio.current_time():
                if keeper is None:
                    await trio.sleep_until(started + at_s)
                else:
                    await keeper.sleep_until(started + at_s, outlet)
            sighting = course.sighting(number, at_s)
            if sighting is None:
                continue
            participant_id = course.name(number)
            payload = {
                "participant_id": participant_id,
                "race_id": race.race_id,
                "latitude": sighting.latitude,
                "longitude": sighting.longitude,
                "timestamp": format_ms(began_ms + round(at_s * 1000)),
                "status": STATUSES[sighting.status],
            }
            topic, encoded = topics.topic(participant_id, race.race_id), _encoder.encode(payload)
            if keeper is not None:
                key = (participant_id, race.race_id, str(payload["timestamp"]))
                keeper.kept.keep(key, topic, encoded, trio.current_time())
            await outlet.publish(topic, encoded)
        if keeper is not None:
            await keeper.finish(outlet)

    return produce


def _number(text: str, low: float, high: float, allowed: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"'{text}': allowed is {allowed}")
    return value


def participant_count(text: str) -> int:
    """Of an option. Raises ArgumentTypeError."""
    value = _number(text, 1, MAX_PARTICIPANTS, allowed := f"a whole number from 1 to {MAX_PARTICIPANTS}")
    if value != int(value):
        raise argparse.ArgumentTypeError(f"'{text}': allowed is {allowed}")
    return int(value)


def _rate(text: str) -> float:
    return _number(text, 0.001, MAX_RATE_HZ, f"a number from 0.001 to {MAX_RATE_HZ:g}")


def _duration(text: str) -> float:
    return _number(text, 0.001, 31_536_000, "a number of seconds above 0, at most a year")


def _patience(text: str) -> float:
    return _number(text, 0.1, 86_400, "a number of seconds from 0.1 to 86400")
