"""What must hold once everything is back and nothing is under way: over sets, from outside.

acknowledged <= stored <= sent, each row once and as it was sent, the live positions of API, Redis and every dashboard
are the newest stored, and the conservation law. `judge` is pure; `check` looks until it is content or time is up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import psycopg

from tests.faults.press import Press
from tests.faults.spectator import Shown, Spectator
from tests.kit.daemon import WITHIN_S, Running
from tests.kit.expected import STATUSES, row, utc
from tests.kit.live_state import last
from tests.kit.metrics import conserved
from tests.kit.station import Station, conninfo

POLL_S = 0.1
SHOW = 5
"""Examples in a complaint."""

ROWS = """select id::text, participant_id, race_id, latitude::text, longitude::text,
  (extract(epoch from client_timestamp) * 1000)::text, status::text
from tracking_positions where race_id = any(%s) order by id"""


@attrs.frozen
class View:
    """Live positions as somebody shows them."""

    races: Sequence[str]  # that it is to show
    shown: Shown


@attrs.frozen
class Seen:
    """What the outside shows of the races of a press."""

    rows: Sequence[tuple[Any, ...]]  # as Station.rows
    live: Mapping[str, View]  # who says so -> what
    metrics: Mapping[str, float]


def check(
    station: Station,
    running: Running,
    press: Press,
    spectators: Sequence[Spectator] = (),
    *,
    may_be_lost: Collection[str] = (),
    within_s: float = WITHIN_S,
) -> Seen:
    """Finish the press, then look until everything holds; `may_be_lost` are row ids that the broker itself lost."""
    press.finish()
    deadline = time.monotonic() + within_s
    while True:
        seen = look(station, running, press.races, spectators)
        complaints = judge(press.sent, press.acknowledged, seen, may_be_lost)
        if not complaints:
            return seen
        assert time.monotonic() < deadline, "\n".join([*complaints, running.log[-3000:]])
        time.sleep(POLL_S)


def look(station: Station, running: Running, races: Sequence[str], spectators: Sequence[Spectator] = ()) -> Seen:
    """Everything there is to see."""
    with psycopg.connect(conninfo(station.postgres), autocommit=True) as db:
        rows = db.execute(ROWS, (list(races),)).fetchall()
    told = {(race, who): one["timestamp"] for race in races for who, one in running.live(race).items()}
    live = {"the API": View(races, told), "Redis": View(races, _in_redis(station, races))}
    for number, spectator in enumerate(spectators):
        live[f"dashboard {number}"] = View(spectator.races, spectator.shown())
    return Seen(rows, live, running.metrics())


def judge(
    sent: Mapping[str, Mapping[str, Any]],
    acknowledged: Collection[str],
    seen: Seen,
    may_be_lost: Collection[str] = (),
) -> list[str]:
    """What is wrong, a line each."""
    stored = [str(one[0]) for one in seen.rows]
    complaints = [
        _some("acknowledged, not stored", set(acknowledged) - set(stored) - set(may_be_lost)),
        _some("stored, never sent", set(stored) - set(sent)),
        _some("stored twice", {one for one, following in pairwise(stored) if one == following}),
        _some("stored otherwise than sent", [one for one in seen.rows if one[0] in sent and one != row(sent[one[0]])]),
    ]
    newest = _newest(seen.rows)
    for who, view in seen.live.items():
        stale = [
            (key, f"stored {newest.get(key)}, shown {view.shown.get(key)}")
            for key in newest.keys() | view.shown.keys()
            if newest.get(key) != view.shown.get(key) and key[0] in view.races
        ]
        complaints.append(_some(f"not the newest stored in {who}", stale))
    waiting = {name: seen.metrics[name] for name in ("tracking_fixes_in_flight", "tracking_fixes_spooled")}
    complaints.append("" if not any(waiting.values()) else f"not at rest: {waiting}")
    complaints.append("" if conserved(seen.metrics) else f"the conservation law is broken: {seen.metrics}")
    return [complaint for complaint in complaints if complaint]


def _newest(rows: Sequence[tuple[Any, ...]]) -> Shown:
    """The live position is the greatest by (timestamp, status, id)."""
    newest: dict[tuple[str, str], tuple[int, int, str]] = {}
    for row_id, participant, race, _, _, ms, status in rows:
        at = int(float(ms)), STATUSES.index(status), row_id
        newest[(race, participant)] = max(at, newest.get((race, participant), at))
    return {key: utc(ms) for key, (ms, _, _) in newest.items()}


def _in_redis(station: Station, races: Sequence[str]) -> Shown:
    """Positions and the sorted set; a participant on whom they do not agree is shown as both."""
    found: Shown = {}
    with station.cache as cache:
        for race in races:
            scores: Any = cache.zrange(f"race:{race}:seen", 0, -1, withscores=True)
            for who, score in scores:
                value = json.loads(str(cache.get(last(race, who)) or "{}")).get("timestamp", "nothing")
                found[(race, who)] = value if value == utc(int(score)) else f"{value}, seen {utc(int(score))}"
    return found


def _some(what: str, of: Collection[Any]) -> str:
    return f"{what}: {len(of)}, such as {sorted(of)[:SHOW]}" if of else ""
