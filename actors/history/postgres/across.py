"""Questions to a table in partitions by time: only those of them are touched that are needed, and each along one index.

Left to itself the planner goes wrong there: for a LIMIT over partitions it takes in each that index whose first row
costs least, whatever has to be skipped in it. For the next participant of a race it takes one of (participant_id), and
reads all of a month in which that race was not: more than ten minutes instead of 250 ms, for 10,000 participants in two
years. So conditions and order name all columns of the fifth index, as rows, and nothing may be sorted: then only that
index will do.

Ids begin with the time: rows of others whose ids do not are not found here.
"""

from __future__ import annotations

from actors.core.identity import first_id
from actors.core.timestamps import DAY_MS
from actors.history.cursor import EARLIEST_US, LATEST_US
from actors.history.postgres.params import Params
from actors.history.queries import HistoryQuery

FIFTH_INDEX = "set local enable_sort = off; set local enable_incremental_sort = off"
"""For `participants` and `newest`."""


def days(params: Params, query: HistoryQuery) -> list[str]:
    """Conditions on ids, where the time is known: partitions without such ones are not touched.

    Of whole days (UTC), with which partitions begin: by exact ones the planner would rather go along the primary key,
    and read what all races had at that time.
    """
    since = [ms for ms in (query.from_ms, query.after and query.after[0] // 1000) if ms is not None]
    conditions = [f"id >= {params.uuid(first_id(max(since) // DAY_MS * DAY_MS))}"] if since else []
    if query.to_ms is not None:
        conditions.append(f"id < {params.uuid(first_id(-(-query.to_ms // DAY_MS) * DAY_MS))}")
    return conditions


def participants(params: Params, race: str) -> str:
    """A WITH: the participants of a race in order, from one to the next. `race`: an expression of SQL."""
    earliest, end = params.moment(EARLIEST_US), params.moment(LATEST_US + 1)
    times = f"""select client_timestamp from tracking_positions
        where race_id = {race} and client_timestamp >= {earliest} and client_timestamp < {end}
        order by client_timestamp"""
    return f"""
with recursive span as materialized (
  select {_first_id("first")} as low, {_first_id("last + interval '1 ms'")} as high
  from (select ({times} limit 1) as first, ({times} desc limit 1) as last) times
), participant as (
  (select participant_id as id from tracking_positions
    where (race_id, participant_id) >= ({race}, '') and race_id <= {race} and {IN_SPAN}
    order by race_id, participant_id limit 1)
  union all
  (select following.id from participant cross join lateral (
    select participant_id as id from tracking_positions
    where (race_id, participant_id) > ({race}, participant.id) and race_id <= {race} and {IN_SPAN}
    order by race_id, participant_id limit 1) following)
)"""


def newest(params: Params, race: str, skew: str, columns: str) -> str:
    """Each participant's newest row that may be live. `skew`: ms, an expression of SQL."""
    earliest, end = params.moment(EARLIEST_US), params.moment(LATEST_US + 1)
    return f"""
{participants(params, race)}
select live.* from participant cross join lateral (
  select {columns} from tracking_positions
  where (race_id, participant_id, client_timestamp) >= ({race}, participant.id, {earliest})
    and (race_id, participant_id, client_timestamp) < ({race}, participant.id, {end}) and {IN_SPAN}
    and client_timestamp <= server_received_at + {skew} * interval '1 ms'
  order by race_id desc, participant_id desc, client_timestamp desc fetch first 1 row with ties) live"""


IN_SPAN = "id >= (select low from span) and id < (select high from span)"


def _first_id(moment: str) -> str:
    """As `first_id` in core/identity.py."""
    unix_ms = f"floor(extract(epoch from greatest({moment}, 'epoch')) * 1000)::bigint"
    return f"(lpad(to_hex({unix_ms}), 12, '0') || repeat('0', 20))::uuid"
