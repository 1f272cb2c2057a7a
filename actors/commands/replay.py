"""`supervisor.py replay FILE`: publishes recorded fixes over MQTT, at the recorded pace or as fast as acknowledged."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import attrs
import trio

from actors.commands.publisher import Outlet, Produce, Topics, publish
from actors.commands.recordings import SUFFIXES, Recorded, Recording
from actors.settings import Settings

LONG_S = 24 * 3600.0
"""A replay that will take longer says so first."""

DESCRIPTION = """\
Publishes recorded fixes at QoS 1, to the topic that the first of [mqtt] topics stands for, and ends when the broker
has acknowledged all of them. FILE is one of:
  .jsonl, .jsonl.gz  one payload a line, as `export --format jsonl` writes them; published as it stands there
  .gpx               a participant per track, named after it; points without a time are left out
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "replay",
        help="publish recorded fixes",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help=", ".join(SUFFIXES))
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
        type=_not_empty,
        metavar="R",
        help="JSON lines: only this race; GPX: the race's id (default: from the file's name)",
    )
    parser.add_argument(
        "--participant",
        type=_not_empty,
        metavar="P",
        help="JSON lines: only this participant; GPX: the participant's id (of further tracks: P-2, P-3 ...)",
    )
    parser.add_argument(
        "--now", action="store_true", help="shift all timestamps by the same time, so that the first one is now"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """0 when every fix was acknowledged, 1 when not, 2 for a file that is none of the kinds known."""
    recording = Recording(args.file, args.race, args.participant)
    if not recording.is_known:
        print(f"replay: {args.file}: the file's name must end in {', '.join(SUFFIXES)}", file=sys.stderr)
        return 2
    extent = survey(recording.read())  # all of it before anything is published: a broken line is found now
    if extent.messages == 0:
        print(f"replay: {args.file}: holds no fixes{_of(recording)}", file=sys.stderr)
        return 1
    lasts_s = extent.lasts_s / args.speed if args.speed else 0.0
    if lasts_s > LONG_S:
        advice = "choose a race with --race, or a higher --speed"
        print(f"replay: this takes {lasts_s / 86_400:,.1f} days at this speed: {advice}", file=sys.stderr)
    shift_ms = 0
    if args.now and extent.first_ms is not None:
        shift_ms = time.time_ns() // 1_000_000 - extent.first_ms
    produce = paced(recording.read(shift_ms), args.speed, Topics.of(settings.mqtt))
    outcome = publish("replay", settings, produce, extent.messages)
    return 1 if outcome.interrupted else 0


@attrs.frozen
class Extent:
    """What a recording holds."""

    messages: int
    first_ms: int | None  # Unix ms; None when no timestamp can be read
    last_ms: int | None

    @property
    def lasts_s(self) -> float:
        """From the first fix to the last, as recorded."""
        return 0.0 if self.first_ms is None or self.last_ms is None else (self.last_ms - self.first_ms) / 1000


def survey(records: Iterable[Recorded]) -> Extent:
    """Count and measure; raises what reading raises."""
    messages = 0
    first_ms: int | None = None
    last_ms: int | None = None
    for record in records:
        messages += 1
        if record.at_ms is not None:
            first_ms = record.at_ms if first_ms is None else min(first_ms, record.at_ms)
            last_ms = record.at_ms if last_ms is None else max(last_ms, record.at_ms)
    return Extent(messages, first_ms, last_ms)


def in_time_order(records: Iterable[Recorded]) -> list[tuple[int, Recorded]]:
    """Each with its Unix ms, sorted by it; one without a readable timestamp stays behind its neighbour in the file.

    Those before the first readable timestamp come first, at that time.
    """
    timed: list[tuple[int, Recorded]] = []
    untimed: list[Recorded] = []
    for record in records:
        if record.at_ms is not None:
            timed.extend((record.at_ms, early) for early in untimed)
            untimed.clear()
            timed.append((record.at_ms, record))
        elif timed:
            timed.append((timed[-1][0], record))
        else:
            untimed.append(record)
    timed.extend((0, record) for record in untimed)
    timed.sort(key=lambda item: item[0])
    return timed


def paced(records: Iterable[Recorded], speed: float, topics: Topics) -> Produce:
    """The work of `publish`: hands over all records, at `speed` times their own pace, or at once when it is 0."""

    async def at_once(outlet: Outlet) -> None:
        for record in records:
            await outlet.publish(topics.topic(record.participant_id, record.race_id), record.payload)

    async def in_step(outlet: Outlet) -> None:
        timed = in_time_order(records)
        started = trio.current_time()
        for at_ms, record in timed:
            due = started + (at_ms - timed[0][0]) / 1000 / speed
            if due > trio.current_time():
                await trio.sleep_until(due)
            await outlet.publish(topics.topic(record.participant_id, record.race_id), record.payload)

    return in_step if speed else at_once


def _of(recording: Recording) -> str:
    if recording.path.suffix == ".gpx":
        return " with a time"
    wanted = [f"race {recording.race}"] if recording.race else []
    wanted += [f"participant {recording.participant}"] if recording.participant else []
    return f" of {', '.join(wanted)}: of JSON lines --race and --participant only choose" if wanted else ""


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 <= speed < math.inf or (0 < speed < 1e-6):
        raise argparse.ArgumentTypeError(f"'{text}': allowed is 0, or a number above it")
    return speed


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text
