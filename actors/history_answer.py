"""What history answers to dashboards and HTTP, as JSON: the list of races, and pages of a race.

Raises Unavailable, StoreMisconfigured.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.access import Grant
from actors.core import wire
from actors.core.cursor import encode_cursor
from actors.core.queries import History, HistoryQuery
from actors.core.requests import GetHistory, ListRaces
from actors.core.timestamps import format_ms


async def list_races(history: History, allowed: Sequence[str] | None) -> bytes:
    """`{"races": [...]}`, newest first, at most 1,000; `allowed` None means all."""
    races = [
        {
            "raceId": race.race_id,
            "participants": race.participants,
            "lastTimestamp": format_ms(race.last_timestamp_ms),
        }
        for race in await history.races(allowed)
    ]
    return msgspec.json.encode({"races": races})


async def one_page(history: History, query: HistoryQuery) -> bytes:
    """`{"positions", "nextCursor"}`, oldest first. In history `stale` is always false."""
    page = await history.history(query)
    cursor = None if page.next is None else encode_cursor(page.next)
    return wire.history_data((wire.position_json(fix, stale=False) for fix in page.fixes), cursor)


async def answer(request: ListRaces | GetHistory, history: History, grant: Grant) -> bytes:
    """The event for a dashboard; that the grant allows the race was checked."""
    if isinstance(request, ListRaces):
        return wire.reply("races", await list_races(history, grant.races), request.request_id)
    return wire.reply("history", await one_page(history, request.query), request.request_id)
