"""All rows of an export, in the transaction that was begun for it, as fast as they are taken.

By time they come along an index. By participant that would read a page of the table for nearly every row, because rows
lie as they came, those of all participants mixed: 8 µs a row once the table is larger than shared_buffers. To sort the
whole race would take a disk. So it is some participants at a time that are read and sorted: 3 µs a row. As each such
group may read every page of the race, there are not many of them, however long the race is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from psycopg.pq.abc import PGresult

from actors.core.fix import Fix
from actors.history.postgres import reader_sql as sql
from actors.history.postgres.across import FIFTH_INDEX
from actors.history.postgres.libpq import PostgresConnection, within
from actors.history.postgres.params import Params
from actors.history.postgres.rows import fixes_of
from actors.history.queries import HistoryQuery

CHUNK_ROWS = 1000
WAIT_S = 10.0  # for the next rows
SORT_S = 300.0  # for the first ones that are sorted: some seconds, more when GROUPS makes groups large
GROUP_ROWS = 2_000_000  # read and sorted together, about: 160 MB of disk, and 2 s of CPU; half a million cost 1.7 s
GROUPS = 20  # about, at most
GROUP_PARTICIPANTS = 5000  # at most, but for GROUPS: each is looked for in an index


async def everything(
    connection: PostgresConnection, query: HistoryQuery, by_participant: bool, in_partitions: bool
) -> AsyncGenerator[list[Fix], None]:
    """Chunks of at most CHUNK_ROWS fixes, in the order of `History.stream`; the end of them ends the transaction.

    `in_partitions`: the table is, by time.

    Raises StoreUnavailable or StoreMisconfigured; then, and when it is left early, the connection is closed.
    """
    one_order = not by_participant or query.participant_id is not None
    rows = _by_time if one_order else _by_participant
    async with aclosing(rows(connection, query, in_partitions)) as results:
        async for result in results:
            yield await fixes_of(result, query.race_id)
    await connection.commit()  # a pooler keeps the connection then


async def _by_time(
    connection: PostgresConnection, query: HistoryQuery, in_partitions: bool
) -> AsyncGenerator[PGresult, None]:
    params = Params(in_partitions)
    await _set(connection, sql.ALONG_AN_INDEX)
    async with aclosing(_rows(connection, sql.by_time(params, query), params, WAIT_S)) as results:
        async for result in results:
            yield result


async def _by_participant(
    connection: PostgresConnection, query: HistoryQuery, in_partitions: bool
) -> AsyncGenerator[PGresult, None]:
    if in_partitions:
        await _set(connection, FIFTH_INDEX)
    names = await _participants(connection, query.race_id, in_partitions)
    await _set(connection, sql.READ_AND_SORTED)
    done, rows = 0, 0
    while done < len(names):
        params = Params(in_partitions)
        following = names[done : done + group_size(len(names), done, rows)]
        async with aclosing(_rows(connection, sql.group(params, query, following), params, SORT_S)) as results:
            async for result in results:
                rows += result.ntuples
                yield result
        done += len(following)


def group_size(participants: int, done: int, rows: int) -> int:
    """How many of the participants are the next group, after so many who had so many rows.

    The first group shows how many rows a participant has: what the planner knows may be nothing yet.
    """
    least = -(-participants // GROUPS)
    return max(least, min(GROUP_ROWS * done // max(rows, 1), GROUP_PARTICIPANTS))


async def _participants(connection: PostgresConnection, race_id: str, in_partitions: bool) -> list[str]:
    params = Params(in_partitions)
    with within(SORT_S):
        result = await connection.query(sql.participants(params, race_id), params.values, params.types)
    return [(result.get_value(row, 0) or b"").decode() for row in range(result.ntuples)]


async def _set(connection: PostgresConnection, setting: str) -> None:
    with within(WAIT_S):
        await connection.script(setting)


async def _rows(
    connection: PostgresConnection, text: str, params: Params, first_s: float
) -> AsyncGenerator[PGresult, None]:
    deadline_s = first_s
    async with aclosing(connection.rows(text, params.values, params.types, CHUNK_ROWS)) as results:
        while True:
            with within(deadline_s):
                result = await anext(results, None)
            if result is None:
                return
            yield result
            deadline_s = WAIT_S
