"""What history answers to dashboards and HTTP, as JSON: the list of races, and pages of a race.

Raises Unavailable, StoreMisconfigured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from actors.core.position import position_json, quoted
from actors.core.timestamps import format_ms
from actors.history.cursor import encode_cursor
from actors.history.queries import History, HistoryQuery


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
    return history_data((position_json(fix, stale=False) for fix in page.fixes), cursor)


def history_data(positions: Iterable[bytes], next_cursor: str | None) -> bytes:
    """`data` of `history`: positions oldest first; `next_cursor` None when nothing is left."""
    cursor = b"null" if next_cursor is None else quoted(next_cursor)
    return b'{"positions":[%b],"nextCursor":%b}' % (b",".join(positions), cursor)
