"""Reads from PostgreSQL: implements core.queries.History on a few connections of its own, never the writer's."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

import attrs
import structlog
import trio
from psycopg.pq.abc import PGresult

from actors.core.addresses import PostgresAddress
from actors.core.errors import StoreUnavailable
from actors.core.fix import Fix, newest_of
from actors.history.postgres import binary
from actors.history.postgres import reader_sql as sql
from actors.history.postgres.across import FIFTH_INDEX
from actors.history.postgres.libpq import PostgresConnection, connect, within
from actors.history.postgres.params import Params
from actors.history.postgres.partitions import is_by_time
from actors.history.postgres.rows import fixes_by_race, fixes_of, in_calendar, place_of
from actors.history.postgres.stream import everything
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary, StoredRejection, mentions_race

log = structlog.get_logger("history")

APPLICATION = "race-tracking reader"
CONNECTIONS = 4
IDLE_S = 10.0  # until a connection is closed: a pooler may have few, for several daemons
CONNECT_S = 5.0
CALL_S = 10.0
NEWEST_S = 3.0
MANY_ROWS = 1000  # of one race, beside others
MANY_S = 0.1  # until no further race is begun: some 5,000 rows
LOOK_S = 30.0  # until it is looked again whether the table is in partitions: it may become so
REJECTIONS_PAGE = 500  # rows of at most 4 kB each, while searching for a race


@attrs.define(eq=False)
class PostgresHistory:
    """Of the primary, or of a standby while none answers.

    All calls raise StoreUnavailable or StoreMisconfigured, within their deadline (seconds).
    """

    address: PostgresAddress
    max_clock_skew_ms: int = 300_000  # of races(): a fix further ahead of its arrival says nothing about its race
    _idle: list[tuple[float, PostgresConnection]] = attrs.field(
        factory=list
    )  # since when (trio's clock), the longest first
    _closes_idle: bool = False
    _by_time: bool = False  # the table is in partitions by time, as it was when somebody looked last
    _look_again: float = -math.inf  # trio's clock
    _places: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(CONNECTIONS))

    async def newest(self, race_id: str, max_clock_skew_ms: int, deadline_s: float = NEWEST_S) -> list[Fix]:
        """Each participant's live position; rows with client_timestamp > server_received_at + skew do not count."""
        result = await self._ask(
            lambda params: sql.newest(params, race_id, max_clock_skew_ms), deadline_s, [FIFTH_INDEX]
        )
        return newest_of(await fixes_of(result, race_id))

    async def newest_of_races(
        self, race_ids: Sequence[str], max_clock_skew_ms: int, deadline_s: float = NEWEST_S
    ) -> dict[str, list[Fix] | None]:
        """The same by race, of as many races as can be asked for in MANY_S, the first of them in any case.

        None for one with more than MANY_ROWS: ask for it alone.
        """
        result = await self._ask(
            lambda params: sql.newest_of_races(params, race_ids, max_clock_skew_ms, MANY_ROWS + 1, MANY_S),
            deadline_s,
            [FIFTH_INDEX],
        )
        return await fixes_by_race(result, race_ids, MANY_ROWS)

    async def rejected(self, ids: Sequence[bytes], deadline_s: float = NEWEST_S) -> set[bytes]:
        """Which of these ids are of rejections."""
        result = await self._ask(lambda params: sql.rejected(params, ids), deadline_s)
        return {_bytes(result, row, 0) for row in range(result.ntuples)}

    async def races(
        self, allowed: Sequence[str] | None = None, limit: int = 1000, deadline_s: float = CALL_S
    ) -> list[RaceSummary]:
        """All races in history, newest first; `allowed` None means all, else only these."""
        result = await self._ask(lambda params: sql.races(params, allowed, self.max_clock_skew_ms, limit), deadline_s)
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
        result = await self._ask(lambda params: sql.page(params, query), deadline_s)
        if result.ntuples <= query.limit:
            return HistoryPage(tuple(await fixes_of(result, query.race_id)), None)
        last = query.limit - 1  # one row more was asked for, to see whether there is more
        return HistoryPage(tuple(await fixes_of(result, query.race_id, query.limit)), place_of(result, last))

    @asynccontextmanager
    async def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AsyncIterator[AsyncIterator[list[Fix]]]:
        """All fixes of the query in chunks of at most 1,000, on a connection of its own, as they were when it began."""
        connection = await connect(self.address, APPLICATION, CONNECT_S)
        try:
            await connection.begin(*sql.EXPORT)
            by_time = await is_by_time(connection)
            async with aclosing(everything(connection, query, by_participant, by_time)) as chunks:
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
                page = partial(sql.rejections, race_id=race_id, code=code, before=before, limit=rows)
                result = await self._ask(page, deadline_s)
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

    async def _ask(
        self, build: Callable[[Params], str], deadline_s: float, in_partitions: Sequence[str] = ()
    ) -> PGresult:
        """`in_partitions`: settings for a table that is."""
        with within(deadline_s):
            async with self._places:
                while self._idle:
                    try:
                        return await self._run(self._idle.pop()[1], build, in_partitions)
                    except StoreUnavailable as error:
                        # Most likely PostgreSQL was restarted while the connection was idle.
                        log.debug("trying another connection", why=str(error))
                return await self._run(await connect(self.address, APPLICATION, CONNECT_S), build, in_partitions)

    async def _run(
        self, connection: PostgresConnection, build: Callable[[Params], str], in_partitions: Sequence[str]
    ) -> PGresult:
        try:
            if trio.current_time() >= self._look_again:
                self._by_time = await is_by_time(connection)
                self._look_again = trio.current_time() + LOOK_S
            params = Params(self._by_time)
            text = build(params)
            if not (self._by_time and in_partitions):
                return await connection.query(text, params.values, params.types)
            async with connection.transaction(*in_partitions):
                return await connection.query(text, params.values, params.types)
        finally:
            if connection.usable and (connection.takes_writes or not self._is_old(connection)):
                self._idle.append((trio.current_time(), connection))
                if not self._closes_idle:
                    self._closes_idle = True
                    trio.lowlevel.spawn_system_task(self._close_idle)  # outlives the caller

    def _is_old(self, connection: PostgresConnection) -> bool:
        """Of a standby, which lags: meanwhile there may be a primary again."""
        if trio.current_time() < connection.opened_s + IDLE_S:
            return False
        connection.close()
        return True

    async def _close_idle(self) -> None:
        while self._idle:
            await trio.sleep_until(self._idle[0][0] + IDLE_S)
            while self._idle and self._idle[0][0] + IDLE_S <= trio.current_time():
                self._idle.pop(0)[1].close()
        self._closes_idle = False


def _rejection(result: PGresult, row: int) -> StoredRejection:
    return StoredRejection(
        id=_bytes(result, row, 0),
        received_ms=in_calendar(binary.read_timestamptz(_bytes(result, row, 1))) // 1000,
        topic=_bytes(result, row, 2).decode(),
        payload=_bytes(result, row, 3),
        code=_bytes(result, row, 4).decode(),
        detail=_bytes(result, row, 5).decode(),
    )


def _bytes(result: PGresult, row: int, column: int) -> bytes:
    return result.get_value(row, column) or b""
