"""What dashboards, HTTP and commands ask of history: the questions and the shapes of the answers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from actors.core.fix import Fix


@attrs.frozen
class RaceSummary:
    """One race in history."""

    race_id: str
    participants: int
    last_timestamp_ms: int  # of its newest fix that may be live


@attrs.frozen
class HistoryQuery:
    """Fixes of a race, oldest first, ordered by (client_timestamp, id)."""

    race_id: str
    participant_id: str | None = None
    from_ms: int | None = None  # inclusive
    to_ms: int | None = None  # exclusive
    limit: int = 1000  # 1..10000
    # Keyset: (Unix µs, id) of the last row already seen; µs, because rows of other writers are not cut to ms.
    after: tuple[int, bytes] | None = None


@attrs.frozen
class HistoryPage:
    """`next` is the keyset position to go on from; None when nothing is left."""

    fixes: tuple[Fix, ...]
    next: tuple[int, bytes] | None  # as HistoryQuery.after


@attrs.frozen
class StoredRejection:
    """A row of `tracking_rejections` as read back."""

    id: bytes
    received_ms: int
    topic: str
    payload: bytes
    code: str
    detail: str


class History(Protocol):
    """Reading from PostgreSQL. Every call raises StoreUnavailable or StoreMisconfigured, within its deadline."""

    async def races(self, allowed: Sequence[str] | None = None, limit: int = 1000) -> list[RaceSummary]:
        """All races in history, newest first; `allowed` None means all, else only these."""
        ...

    async def history(self, query: HistoryQuery) -> HistoryPage: ...

    def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Fix]]]:
        """All fixes of the query in chunks, with flat memory; `limit` and `after` are ignored.

        Oldest first, or one participant after the other (for the formats that hold a track a participant).
        """
        ...

    async def rejections(
        self, *, race_id: str | None = None, code: str | None = None, limit: int = 100
    ) -> list[StoredRejection]:
        """Newest first."""
        ...


# Works on a payload that was cut off, and on every element of an array.
_RACE = re.compile(r'"race_id"\s*:\s*("(?:[^"\\\x00-\x1f]|\\.)*")')


def mentions_race(payload: bytes, race_id: str) -> bool:
    """Whether a member `race_id` anywhere in the payload has this value (compared in NFC)."""
    for match in _RACE.finditer(payload.decode("utf-8", "replace")):
        try:
            value = json.loads(match[1])
        except ValueError:  # a bad escape
            continue
        if unicodedata.normalize("NFC", value) == race_id:
            return True
    return False
