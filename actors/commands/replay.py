"""`supervisor.py replay FILE`: publishes recorded fixes over MQTT, at the recorded pace or as fast as acknowledged."""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Iterable
from pathlib import Path

import attrs
import trio

from actors.commands.arguments import participant_id, race_id, shift_ms, time_zone
from actors.commands.publisher import Outlet, Produce, Topics, publish, say
from actors.core.timestamps import DAY_MS, LATEST_MS
from actors.recordings.points import LeftOut, PointAccount, Recorded, WrongUse
from actors.recordings.recording import Recording
from actors.settings.load import Settings

LONG_S = 24 * 3600.0
"""A replay that will take longer says so first."""

DESCRIPTION = """\
Publishes recorded fixes at QoS 1, to the topic that the first of [mqtt] topics stands for, and ends when the broker
has acknowledged all of them. Each is judged alone before anything is published; what is left out is counted. FILE is
one of these, or gzip of it; its content decides, not its name:
  JSON lines  one payload a line, as `export --format jsonl` writes them; published as it stands there
  GPX         one participant's tracks, named after the file; of a file that `export --format gpx` has written, a
              participant per track. Points without a time are left out
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "replay",
        help="publish recorded fixes",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines or GPX")
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="N",
        help="N times as fast as recorded, all races in one order of time (default: 1); 0: as fast as acknowledged, "
        "in the order of the file",
    )
    parser.add_argument(
        "--race",
        type=race_id,
        metavar="R",
        help="JSON lines: only this race; GPX: the race's id (default: the file's name)",
    )
    parser.add_argument(
        "--participant",
        type=participant_id,
        metavar="P",
        help="JSON lines, and GPX of `export`: only this one; GPX: the participant's id (default: the file's name)",
    )
    parser.add_argument(
        "--time-zone", type=time_zone, metavar="ZONE", help="GPX: of times without a zone, such as Europe/Berlin"
    )
    parser.add_argument(
        "--shift",
        type=shift_ms,
        default=0,
        metavar="S",
        help="move all timestamps by seconds, or by hours and minutes: -08:00 for local time of China with a Z",
    )
    parser.add_argument(
        "--now", action="store_true", help="shift all timestamps by the same time, so that the first one is now"
    )
    # As Python 3.14 has it: -08:00 is the value of an option, not another option.
    parser._negative_number_matcher = re.compile(r"-\.?[0-9]")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when every fix was acknowledged, 1 when not or when there is none, 2 for an id or a file that cannot be."""
    recording = Recording(args.file, args.race, args.participant, args.time_zone, settings.mqtt.max_payload_bytes)
    now_ms = time.time_ns() // 1_000_000
    shift_ms, latest_ms = args.shift, LATEST_MS if args.now else now_ms + DAY_MS
    try:
        extent = survey(recording, shift_ms, latest_ms)  # all of it before anything is published
        if args.now and extent.lasts_ms > (ahead_ms := most_ahead_ms(args.speed)):
            latest_ms = extent.first_ms + ahead_ms
            extent = survey(recording, shift_ms, latest_ms)
    except WrongUse as wrong:
        say(f"replay: {wrong}")
        return 2
    for line in told(extent, recording):
        say(f"replay: {args.file}: {line}")
    if extent.messages == 0:
        return 1
    lasts_s = extent.lasts_ms / 1000 / args.speed if args.speed else 0.0
    if lasts_s > LONG_S:
        advice = "choose a race with --race, or a higher --speed"
        say(f"replay: this takes {lasts_s / 86_400:,.1f} days at this speed: {advice}")
    if args.now:
        until_now_ms = now_ms - extent.first_ms
        shift_ms, latest_ms = shift_ms + until_now_ms, min(latest_ms + until_now_ms, LATEST_MS)
    records = recording.read(PointAccount(), shift_ms, latest_ms)
    outcome = publish("replay", settings, paced(records, args.speed, Topics.of(settings.mqtt)), extent.messages)
    return 1 if outcome.interrupted else 0


@attrs.frozen
class Extent:
    """What of a recording can be published."""

    tally: PointAccount
    messages: int = 0
    first_ms: int = 0  # Unix ms, where there are messages
    last_ms: int = 0

    @property
    def lasts_ms(self) -> int:
        """From the first fix to the last, as recorded."""
        return self.last_ms - self.first_ms


def survey(recording: Recording, shift_ms: int = 0, latest_ms: int = LATEST_MS) -> Extent:
    """Count and measure; raises what reading raises."""
    tally = PointAccount()
    messages, first_ms, last_ms = 0, LATEST_MS, 0
    for record in recording.read(tally, shift_ms, latest_ms):
        messages += 1
        first_ms, last_ms = min(first_ms, record.at_ms), max(last_ms, record.at_ms)
    return Extent(tally, messages, first_ms, last_ms) if messages else Extent(tally)


def most_ahead_ms(speed: float) -> int:
    """How long after the first a fix may be, that the daemon does not take it for one of the future with --now."""
    if 0 < speed <= 1:
        return LATEST_MS
    return DAY_MS if speed == 0 else int(DAY_MS * speed / (speed - 1))


def told(extent: Extent, recording: Recording) -> Iterable[str]:
    """What is there to say of what was read."""
    tally = extent.tally
    yield tally.summary
    if tally.cut:
        yield f"warning: {tally.cut}: what is whole of it is taken"
    if LeftOut.NO_ZONE in tally.left_out:
        yield "say with --time-zone which zone the times are of that name none"
    if tally.looks_made_up:
        yield "warning: its times begin with a year, to the second: they may be made up"
    if extent.messages:
        return
    if tally.is_course:
        yield f"a planned course, {tally.read:,} points without time: cannot be replayed"
    elif tally.read:
        yield "nothing of it can be published"
    else:
        wanted = [f"race {recording.race}"] if recording.race else []
        wanted += [f"participant {recording.participant}"] if recording.participant else []
        only = f" of {', '.join(wanted)}: of JSON lines --race and --participant only choose" if wanted else ""
        yield f"holds no fixes{only}"


def paced(records: Iterable[Recorded], speed: float, topics: Topics) -> Produce:
    """The work of `publish`: hands over all records, at `speed` times their own pace, or at once when it is 0."""

    async def at_once(outlet: Outlet) -> None:
        for record in records:
            await outlet.publish(topics.topic(record.participant_id, record.race_id), record.payload)

    async def in_step(outlet: Outlet) -> None:
        timed = sorted(records, key=lambda record: record.at_ms)
        started = trio.current_time()
        for record in timed:
            due = started + (record.at_ms - timed[0].at_ms) / 1000 / speed
            if due > trio.current_time():
                await trio.sleep_until(due)
            await outlet.publish(topics.topic(record.participant_id, record.race_id), record.payload)

    return in_step if speed else at_once


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 <= speed < math.inf or (0 < speed < 1e-6):
        raise argparse.ArgumentTypeError(f"'{text}': allowed is 0, or a number above it")
    return speed
