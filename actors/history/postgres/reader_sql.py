"""The questions to history as SQL. Each goes along an index: the plans are part of the tests.

Moments outside of the years 1 to 9999 (`infinity` among them) are left out: no text form of ours can say them.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.history.cursor import EARLIEST_US, LATEST_US
from actors.history.postgres import across
from actors.history.postgres.params import Params
from actors.history.queries import HistoryQuery

NUMBERS, PARTICIPANT, STATUS, RACE = range(4)
EXPORT = (
    "set transaction isolation level repeatable read, read only",  # several statements see the same rows
    "set local statement_timeout = 0",  # one lasts as long as the client reads
    "set local lock_timeout = '9500ms'",
    "set local max_parallel_workers_per_gather = 0",  # the other processors are for those who are in a hurry
)
"""Of a transaction that exports."""
ALONG_AN_INDEX = "set local enable_sort = off"
"""For `by_time`: the first row comes at once, and nothing is sorted on disk, whatever the statistics say."""
READ_AND_SORTED = "set local enable_sort = on; set local enable_indexscan = off; set local enable_nestloop = off"
"""For `group`: a page of the table is read once for all rows on it, however well ordered it is said to be."""
LOOKED_AT = 10_000  # rows of one race, at most, for one that could be live: 5 ms
COLUMNS = """uuid_send(id) || float8send(latitude::float8) || float8send(longitude::float8)
    || timestamptz_send(client_timestamp) || timestamptz_send(server_received_at), participant_id, status::text"""
"""Of a row; what always has the same length in one piece, because each piece costs whoever takes them."""


def rejected(params: Params, ids: Sequence[bytes]) -> str:
    """Those of the ids that are in the table of rejections."""
    return f"select id from tracking_rejections where id = any({params.uuids(ids)})"


def newest(params: Params, race_id: str, max_clock_skew_ms: int) -> str:
    """Each participant's newest row, or several of the same moment, of which the caller takes the greatest.

    One step in the fifth index for each participant: 200 participants 4 ms, 10,000 200 ms,
    however many rows they have. Sorting by status and id here too would cost half as much again.
    """
    return _newest(params, params.text(race_id), params.number(max_clock_skew_ms))


def newest_of_races(
    params: Params, race_ids: Sequence[str], max_clock_skew_ms: int, most_rows: int, within_s: float
) -> str:
    """The same for many races, each row with the number of its race, from 1; a race without any has one of nulls.

    Of each race at most so many rows. No race is begun later than `within_s`: it has no row at all, but the first race
    is always begun. 100 races of nobody 1 ms, of two participants 5 ms.
    """
    races, stop_s = params.texts(race_ids), params.number(round(within_s * 1000))
    newest_of_race = _newest(params, "race.id", params.number(max_clock_skew_ms))
    return f"""
select live.*, race.number from (
  select id, number from unnest({races}) with ordinality race(id, number)
  where number = 1 or clock_timestamp() < statement_timestamp() + {stop_s} * interval '1 ms') race
left join lateral ({newest_of_race} limit {params.number(most_rows)}) live on true"""


def _newest(params: Params, race: str, skew: str) -> str:
    if params.in_partitions:
        return across.newest(params, race, skew, COLUMNS)
    earliest, end = params.moment(EARLIEST_US), params.moment(LATEST_US + 1)
    return f"""
{_participants(params, race)}
select live.* from participant cross join lateral (
  select {COLUMNS} from tracking_positions p
  where p.race_id = {race} and p.participant_id = participant.id
    and p.client_timestamp >= {earliest} and p.client_timestamp < {end}
    and p.client_timestamp <= p.server_received_at + {skew} * interval '1 ms'
  order by p.client_timestamp desc fetch first 1 row with ties) live"""


def races(params: Params, allowed: Sequence[str] | None, max_clock_skew_ms: int, limit: int) -> str:
    """Race, participants, newest client_timestamp. A race whose rows are all gone has no newest, so is not there.

    The newest of those that could be live, as in `newest`: a clock that is ahead does not bring its race to the top.
    Where LOOKED_AT rows and more are ahead, or all are, the arrival of the newest must do.
    1,000 races 20 ms, however many participants and rows: their number is kept, the newest is one step in an index,
    and half a µs for each row that is ahead.
    """
    only = "" if allowed is None else f"where race_id = any({params.texts(allowed)})"
    earliest, end = params.moment(EARLIEST_US), params.moment(LATEST_US + 1)
    skew = f"{params.number(max_clock_skew_ms)} * interval '1 ms'"
    rows = f"""tracking_positions p
      where p.race_id = race.race_id and p.client_timestamp >= {earliest} and p.client_timestamp < {end}"""
    return f"""
select race.race_id, race.participants, newest.moment
from (
  select race_id, sum(participants) as participants from tracking_participant_counts {only}
  group by race_id having sum(participants) > 0) race
cross join lateral (select coalesce(
  (select client_timestamp from (
      select client_timestamp, server_received_at from {rows} and p.client_timestamp <= now() + {skew}
      order by client_timestamp desc limit {LOOKED_AT}) looked_at
    where client_timestamp - {skew} <= server_received_at order by client_timestamp desc limit 1),
  (select greatest(least(client_timestamp, server_received_at), {earliest}) from {rows}
    order by client_timestamp desc limit 1)) as moment) newest
where newest.moment is not null
order by newest.moment desc, race.race_id limit {params.number(limit)}"""


def page(params: Params, query: HistoryQuery) -> str:
    """One page and one row more."""
    after = ""
    if query.after is not None:
        # The moment alone too: that is what the index can seek.
        moment = params.moment(query.after[0])
        after = (
            f"and client_timestamp >= {moment} and (client_timestamp, id) > ({moment}, {params.uuid(query.after[1])})"
        )
    return (
        f"select {COLUMNS} from tracking_positions where {_matching(params, query)} {after}"
        f" order by client_timestamp, id limit {params.number(query.limit + 1)}"
    )


def by_time(params: Params, query: HistoryQuery) -> str:
    """All rows of the query."""
    return f"select {COLUMNS} from tracking_positions where {_matching(params, query)} order by client_timestamp, id"


def participants(params: Params, race_id: str) -> str:
    """Their ids, in order."""
    return f"{_participants(params, params.text(race_id))} select id::text from participant"


def group(params: Params, query: HistoryQuery, names: Sequence[str]) -> str:
    """All rows of these participants of the query, in the order of the names.

    By their places, because to compare names is most of the work where the database sorts as a language does.
    """
    listed = params.texts(names)
    return (
        f"select {COLUMNS} from tracking_positions"
        f" join unnest({listed}) with ordinality as listed (name, place) on participant_id = name"
        f" where {_matching(params, query)} and participant_id = any({listed}) order by place, client_timestamp, id"
    )


def rejections(
    params: Params, race_id: str | None, code: str | None, before: tuple[int, bytes] | None, limit: int
) -> str:
    """Newest first. By race only what may speak of it: its id as it is, or written with escapes or in another form."""
    conditions = ["true"]
    if code is not None:
        conditions.append(f"code = {params.text(code)}")
    if race_id is not None and race_id.isascii():
        wanted = params.text(race_id)
        conditions.append(
            f"(position(convert_to({wanted}, 'UTF8') in payload) > 0 or position('\\x5c'::bytea in payload) > 0)"
        )
    if before is not None:
        conditions.append(f"(received_at, id) < ({params.moment(before[0])}, {params.uuid(before[1])})")
    return (
        "select id, received_at, topic, payload, code, detail from tracking_rejections"
        f" where {' and '.join(conditions)} order by received_at desc, id desc limit {params.number(limit)}"
    )


def _matching(params: Params, query: HistoryQuery) -> str:
    conditions = [f"race_id = {params.text(query.race_id)}"]
    if query.participant_id is not None:
        conditions.append(f"participant_id = {params.text(query.participant_id)}")
    start = EARLIEST_US if query.from_ms is None else query.from_ms * 1000
    end = LATEST_US + 1 if query.to_ms is None else query.to_ms * 1000
    conditions.append(f"client_timestamp >= {params.moment(start)} and client_timestamp < {params.moment(end)}")
    if params.in_partitions:
        conditions += across.days(params, query)
    return " and ".join(conditions)


def _participants(params: Params, race: str) -> str:
    """A WITH: the participants of a race in order, from one to the next by the fifth index (a loose index scan)."""
    if params.in_partitions:
        return across.participants(params, race)
    return f"""
with recursive participant as (
  (select participant_id as id from tracking_positions where race_id = {race} order by participant_id limit 1)
  union all
  (select following.id from participant cross join lateral (
    select participant_id as id from tracking_positions
    where race_id = {race} and participant_id > participant.id order by participant_id limit 1) following)
)"""
