"""Reads from PostgreSQL: implements core.queries.History on a few connections of its own, never the writer's."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import attrs
import structlog
import trio
from psycopg.pq.abc import PGresult

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable
from actors.core.fix import STATUSES, Fix, newest_of
from actors.history.cursor import EARLIEST_US, LATEST_US
from actors.history.postgres import binary
from actors.history.postgres import reader_sql as sql
from actors.history.postgres.libpq import PostgresConnection, connect, within
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary, StoredRejection, mentions_race

log = structlog.get_logger("history")

APPLICATION = "race-tracking reader"
CONNECTIONS = 4
IDLE_S = 10.0  # until a connection is closed: a pooler may have few, for several daemons
CONNECT_S = 5.0
CALL_S = 10.0
NEWEST_S = 3.0
CHUNK_ROWS = 1000
MANY_ROWS = 1000  # of one race, beside others
MANY_S = 0.1  # until no further race is begun: some 5,000 rows
SLICE_ROWS = 500  # decoded without giving way to other tasks: about 1 ms
REJECTIONS_PAGE = 500  # rows of at most 4 kB each, while searching for a race

_STATUS_INDEX = {status.encode(): index for index, status in enumerate(STATUSES)}


@attrs.define(eq=False)
class PostgresHistory:
    """All calls raise StoreUnavailable or StoreMisconfigured, within their deadline (seconds)."""

    address: PostgresAddress
    max_clock_skew_ms: int = 300_000  # of races(): a fix further ahead of its arrival says nothing about its race
    _idle: list[tuple[float, PostgresConnection]] = attrs.field(
        factory=list
    )  # since when (trio's clock), the longest first
    _closes_idle: bool = False
    _places: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(CONNECTIONS))

    async def newest(self, race_id: str, max_clock_skew_ms: int, deadline_s: float = NEWEST_S) -> list[Fix]:
        """Each participant's live position; rows with client_timestamp > server_received_at + skew do not count."""
        params = sql.Params()
        text = sql.newest(params, race_id, max_clock_skew_ms)
        return newest_of(await _fixes(await self._ask(text, params, deadline_s), race_id))

    async def newest_of_races(
        self, race_ids: Sequence[str], max_clock_skew_ms: int, deadline_s: float = NEWEST_S
    ) -> dict[str, list[Fix] | None]:
        """The same by race, of as many races as can be asked for in MANY_S, the first of them in any case.

        None for one with more than MANY_ROWS: ask for it alone.
        """
        params = sql.Params()
        text = sql.newest_of_races(params, race_ids, max_clock_skew_ms, MANY_ROWS + 1, MANY_S)
        result = await self._ask(text, params, deadline_s)
        return await _fixes_by_race(result, race_ids)

    async def rejected(self, ids: Sequence[bytes], deadline_s: float = NEWEST_S) -> set[bytes]:
        """Which of these ids are of rejections."""
        params = sql.Params()
        result = await self._ask(sql.rejected(params, ids), params, deadline_s)
        return {_bytes(result, row, 0) for row in range(result.ntuples)}

    async def races(
        self, allowed: Sequence[str] | None = None, limit: int = 1000, deadline_s: float = CALL_S
    ) -> list[RaceSummary]:
        """All races in history, newest first; `allowed` None means all, else only these."""
        params = sql.Params()
        text = sql.races(params, allowed, self.max_clock_skew_ms, limit)
        result = await self._ask(text, params, deadline_s)
        return [
            RaceSummary(
                race_id=_bytes(result, row, 0).decode(),
                participants=binary.read_int8(_bytes(result, row, 1)),
                last_timestamp_ms=binary.read_timestamptz(_bytes(result, row, 2)) // 1000,
            )
            for row in range(result.ntuples)
        ]

    async def history(self, query: HistoryQuery, deadline_s: float = CALL_S) -> HistoryPage:
        """One page, oldest first."""
        params = sql.Params()
        result = await self._ask(sql.page(params, query), params, deadline_s)
        if result.ntuples <= query.limit:
            return HistoryPage(tuple(await _fixes(result, query.race_id)), None)
        last = query.limit - 1  # one row more was asked for, to see whether there is more
        position = (binary.read_timestamptz(_bytes(result, last, sql.SENT_AT)), _bytes(result, last, sql.ID))
        return HistoryPage(tuple(await _fixes(result, query.race_id, query.limit)), position)

    @asynccontextmanager
    async def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AsyncIterator[AsyncIterator[list[Fix]]]:
        """All fixes of the query in chunks of 1,000, on a connection of its own, as they were when it began."""
        connection = await connect(self.address, APPLICATION, CONNECT_S)
        try:
            async with connection.transaction("set transaction read only"):
                params = sql.Params()
                text = sql.everything(params, query, by_participant)
                with within(CALL_S):
                    await connection.query(f"declare export no scroll cursor for {text}", params.values, params.types)
                async with aclosing(_fetched(connection, query.race_id)) as chunks:
                    yield chunks
        finally:
            connection.close()

    async def rejections(
        self, *, race_id: str | None = None, code: str | None = None, limit: int = 100, deadline_s: float = CALL_S
    ) -> list[StoredRejection]:
        """Newest first. The race is looked for in the payload, because a row has no column for it."""
        found: list[StoredRejection] = []
        before: tuple[int, bytes] | None = None
        rows = limit if race_id is None else REJECTIONS_PAGE
        with within(deadline_s):
            while True:
                params = sql.Params()
                result = await self._ask(sql.rejections(params, race_id, code, before, rows), params, deadline_s)
                for row in range(result.ntuples):
                    rejection = _rejection(result, row)
                    if race_id is None or mentions_race(rejection.payload, race_id):
                        found.append(rejection)
                if len(found) >= limit or result.ntuples < rows:
                    return found[:limit]
                last = result.ntuples - 1
                before = (binary.read_timestamptz(_bytes(result, last, 1)), _bytes(result, last, 0))

    async def aclose(self) -> None:
        """Close idle connections; those in use end with their calls."""
        while self._idle:
            self._idle.pop()[1].close()
        await trio.lowlevel.checkpoint()

    async def _ask(self, text: str, params: sql.Params, deadline_s: float) -> PGresult:
        with within(deadline_s):
            async with self._places:
                while self._idle:
                    try:
                        return await self._run(self._idle.pop()[1], text, params)
                    except StoreUnavailable as error:
                        # Most likely PostgreSQL was restarted while the connection was idle.
                        log.debug("trying another connection", why=str(error))
                return await self._run(await connect(self.address, APPLICATION, CONNECT_S), text, params)

    async def _run(self, connection: PostgresConnection, text: str, params: sql.Params) -> PGresult:
        try:
            return await connection.query(text, params.values, params.types)
        finally:
            if connection.usable:
                self._idle.append((trio.current_time(), connection))
                if not self._closes_idle:
                    self._closes_idle = True
                    trio.lowlevel.spawn_system_task(self._close_idle)  # outlives the caller

    async def _close_idle(self) -> None:
        while self._idle:
            await trio.sleep_until(self._idle[0][0] + IDLE_S)
            while self._idle and self._idle[0][0] + IDLE_S <= trio.current_time():
                self._idle.pop(0)[1].close()
        self._closes_idle = False


async def _fetched(connection: PostgresConnection, race_id: str) -> AsyncGenerator[list[Fix], None]:
    rows = CHUNK_ROWS
    while rows == CHUNK_ROWS:
        with within(CALL_S):
            result = await connection.query(f"fetch forward {CHUNK_ROWS} from export")
        rows = result.ntuples
        if rows:
            yield await _fixes(result, race_id)


async def _fixes(result: PGresult, race_id: str, most: int | None = None) -> list[Fix]:
    fixes = []
    for row in range(result.ntuples if most is None else min(most, result.ntuples)):
        await _give_way(row)
        fix = _fix(result, row, race_id)
        if fix is not None:
            fixes.append(fix)
    return fixes


async def _fixes_by_race(result: PGresult, race_ids: Sequence[str]) -> dict[str, list[Fix] | None]:
    """None where there are more than MANY_ROWS."""
    rows, fixes = Counter[str](), defaultdict[str, list[Fix]](list)
    for row in range(result.ntuples):
        await _give_way(row)
        race_id = race_ids[binary.read_int8(_bytes(result, row, sql.RACE)) - 1]
        rows[race_id] += 1
        fix = _fix(result, row, race_id)
        if fix is not None:
            fixes[race_id].append(fix)
    return {race_id: newest_of(fixes[race_id]) if count <= MANY_ROWS else None for race_id, count in rows.items()}


async def _give_way(row: int) -> None:
    """A turn for everybody else, now and then."""
    if row % SLICE_ROWS == SLICE_ROWS - 1:
        await trio.lowlevel.checkpoint()


def _fix(result: PGresult, row: int, race_id: str) -> Fix | None:
    """None for a row of another writer that is no position: NaN, a status of its own."""
    status = _STATUS_INDEX.get(_bytes(result, row, sql.STATUS))
    if status is None:
        return None
    latitude = binary.read_double(_bytes(result, row, sql.LATITUDE))
    longitude = binary.read_double(_bytes(result, row, sql.LONGITUDE))
    if math.isnan(latitude) or math.isnan(longitude):
        return None
    return Fix(
        race_id=race_id,
        participant_id=_bytes(result, row, sql.PARTICIPANT).decode(),
        lat_e7=round(latitude * 1e7),
        lon_e7=round(longitude * 1e7),
        timestamp_ms=binary.read_timestamptz(_bytes(result, row, sql.SENT_AT)) // 1000,
        status=status,
        arrived_ms=_in_calendar(binary.read_timestamptz(_bytes(result, row, sql.ARRIVED_AT))) // 1000,
        id=_bytes(result, row, sql.ID),
    )


def _in_calendar(unix_us: int) -> int:
    return min(max(unix_us, EARLIEST_US), LATEST_US)


def _rejection(result: PGresult, row: int) -> StoredRejection:
    return StoredRejection(
        id=_bytes(result, row, 0),
        received_ms=_in_calendar(binary.read_timestamptz(_bytes(result, row, 1))) // 1000,
        topic=_bytes(result, row, 2).decode(),
        payload=_bytes(result, row, 3),
        code=_bytes(result, row, 4).decode(),
        detail=_bytes(result, row, 5).decode(),
    )


def _bytes(result: PGresult, row: int, column: int) -> bytes:
    return result.get_value(row, column) or b""
