"""Reading back: live positions, races, pages, streams, rejections, and the plans behind them."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.core.fix import Fix
from actors.core.rejection import Rejection, poison
from actors.history.postgres import migration, reader, reader_sql
from actors.history.postgres.params import Params
from actors.history.postgres.reader import CONNECTIONS, PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import Database

pytestmark = pytest.mark.live

SKEW_MS = 300_000


@pytest.fixture
async def history(database: Database, writer: PostgresWriter) -> AsyncIterator[PostgresHistory]:
    history = PostgresHistory(database.address, SKEW_MS)
    yield history
    await history.aclose()


async def pages(history: PostgresHistory, query: HistoryQuery) -> list[HistoryPage]:
    found = []
    while True:
        found.append(await history.history(query))
        position = found[-1].next
        if position is None:
            return found
        query = attrs.evolve(query, after=position)


async def test_a_fix_comes_back_as_it_was_stored(history: PostgresHistory, writer: PostgresWriter) -> None:
    fixes = [
        make_fix("Pé", n, lat=-89.9999999 + n, lon=179.9999999 - n, status=n % 4, arrived_s=n + 0.1) for n in range(9)
    ]
    await writer.store(fixes)
    assert (await history.history(HistoryQuery("R1"))).fixes == tuple(fixes)


async def test_newest_is_the_greatest_by_time_status_and_id(history: PostgresHistory, writer: PostgresWriter) -> None:
    tied = [make_fix("P1", 5, lat=lat, status=status) for lat in (1, 2, 3) for status in (0, 1)]
    await writer.store([*tied, make_fix("P1", 4, status=3), make_fix("P2", 1), make_fix("P9", 9, race_id="R2")])
    live = {fix.participant_id: fix for fix in await history.newest("R1", SKEW_MS)}
    assert live == {"P1": max(tied, key=lambda fix: fix.rank), "P2": make_fix("P2", 1)}
    assert await history.newest("R3", SKEW_MS) == []


async def test_newest_leaves_out_what_came_from_the_future(history: PostgresHistory, writer: PostgresWriter) -> None:
    within = make_fix("P1", 310, arrived_s=10)
    beyond = make_fix("P1", 310.001, arrived_s=10)
    await writer.store([make_fix("P1", 9), within, beyond, make_fix("P2", 1000, arrived_s=0)])
    assert await history.newest("R1", SKEW_MS) == [within]


async def test_newest_of_races_are_those_of_each(
    database: Database, history: PostgresHistory, writer: PostgresWriter
) -> None:
    """Several of one moment, some that are ahead or no positions, many participants, and races that are not there."""
    await writer.store(
        [
            *(make_fix("P1", 5, lat=lat, status=status, race_id="R1") for lat in (1, 2, 3) for status in (0, 1)),
            *(make_fix(f"P{n}", step, race_id="R2") for n in range(300) for step in range(2)),
            *(make_fix("P1", step, race_id="R3", arrived_s=-1) for step in (298, 299, 300)),
            make_fix("P2", 1000, race_id="R3", arrived_s=0),
            make_fix("P2", 1000, race_id="R4", arrived_s=0),
        ]
    )
    await database.run(
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp) values"
        " ('R5', 'P1', 'NaN', 1, '2025-07-01'), ('R5', '', 1, 2, 'infinity'), ('R5', '', 1, 2, '2025-07-01')"
    )
    races = ["R5", "nobody", "R1", "R4", "nul\0", "R3", "R2"]
    found = await history.newest_of_races(races, SKEW_MS)
    assert found == {race: await history.newest(race, SKEW_MS) for race in races}
    assert [len(found[race] or ()) for race in races] == [1, 0, 1, 0, 0, 1, 300]
    assert await history.newest_of_races([], SKEW_MS) == {}


async def test_a_large_race_is_left_to_a_question_of_its_own(
    monkeypatch: pytest.MonkeyPatch, history: PostgresHistory, writer: PostgresWriter
) -> None:
    monkeypatch.setattr(reader, "MANY_ROWS", 3)
    fixes = [
        make_fix(f"P{n}", n, race_id=race) for race, people in (("R3", 3), ("R4", 4), ("R9", 9)) for n in range(people)
    ]
    await writer.store(fixes)
    assert await history.newest_of_races(["R9", "R3", "R4", "R0"], SKEW_MS) == {
        "R9": None, "R3": fixes[:3], "R4": None, "R0": [],
    }  # fmt: skip


async def test_when_the_time_is_over_no_further_race_is_begun(
    monkeypatch: pytest.MonkeyPatch, history: PostgresHistory, writer: PostgresWriter
) -> None:
    await writer.store([make_fix(race_id=f"R{n}") for n in range(9)])
    monkeypatch.setattr(reader, "MANY_S", 0)
    assert await history.newest_of_races(["R3", "R4", "R5"], SKEW_MS) == {"R3": [make_fix(race_id="R3")]}
    assert await history.newest_of_races(["R0"], SKEW_MS) == {"R0": [make_fix(race_id="R0")]}


async def test_races_newest_first_and_only_those_allowed(
    database: Database, history: PostgresHistory, writer: PostgresWriter
) -> None:
    assert await history.races() == []
    await writer.store([make_fix(f"P{n}", n % 3, race_id=f"R{n % 3}") for n in range(9)])
    races = [RaceSummary(f"R{n}", 3, BASE_MS + n * 1000) for n in (2, 1, 0)]
    assert await history.races() == races
    assert await history.races(limit=2) == races[:2]
    assert await history.races(["R0", "R2", "nul\0", "\udcff"]) == [races[0], races[2]]
    assert await history.races([]) == []
    await database.run("delete from tracking_positions where race_id = 'R1'")
    assert await history.races() == [races[0], races[2]]
    await database.run("update tracking_participant_counts set participants = 4 where race_id = 'R0'")
    assert await history.races(["R0"]) == [attrs.evolve(races[2], participants=4)]  # not counted again
    await database.run("delete from tracking_participants where race_id = 'R2'")
    assert await history.races(["R2"]) == []


async def test_a_fix_that_is_never_live_does_not_make_its_race_the_newest(
    database: Database, history: PostgresHistory, writer: PostgresWriter
) -> None:
    day_s, limit_s = 86_400, SKEW_MS / 1000
    await writer.store(
        [
            *(make_fix(f"P{n}", n, race_id="R-now") for n in range(3)),
            *(make_fix("P9", 72_000 + n, race_id="R-old", arrived_s=n - day_s) for n in range(20)),
            make_fix("P1", -day_s + limit_s + 5, race_id="R-old", arrived_s=-day_s + 5),
            *(make_fix(f"P{n}", 72_000 + n, race_id="R-ahead", arrived_s=n - 100) for n in range(3)),
        ]
    )
    listed = [(race.race_id, (race.last_timestamp_ms - BASE_MS) / 1000) for race in await history.races()]
    # Of a race without a fix that could be live: when the newest came.
    assert listed == [("R-now", 2), ("R-ahead", -98), ("R-old", -day_s + limit_s + 5)]
    strict = PostgresHistory(database.address, max_clock_skew_ms=0)
    assert [race.race_id for race in await strict.races(limit=1)] == ["R-now"]
    assert [race.last_timestamp_ms - BASE_MS for race in await strict.races(["R-old"])] == [(19 - day_s) * 1000]
    await strict.aclose()


async def test_behind_very_many_fixes_that_are_ahead_nobody_looks_for_the_last_good_one(
    database: Database, history: PostgresHistory, writer: PostgresWriter
) -> None:
    """All trackers of a race may stand in the wrong time zone: the list of races does not read its every row."""
    await writer.store([make_fix("P1", -7200)])
    await database.run(
        "insert into tracking_positions"
        " (race_id, participant_id, latitude, longitude, client_timestamp, server_received_at)"
        " select 'R1', 'P1', 1, 2, moment + interval '2 hours', moment from"
        f" (select '2025-07-01T08:15:30Z'::timestamptz + n * interval '1 ms' as moment"
        f" from generate_series(1, {reader_sql.LOOKED_AT + 1}) n) ahead"
    )
    assert [race.last_timestamp_ms for race in await history.races()] == [BASE_MS + reader_sql.LOOKED_AT + 1]
    await database.run("delete from tracking_positions where client_timestamp > '2025-07-01T10:15:30.001Z'")
    assert [race.last_timestamp_ms for race in await history.races()] == [BASE_MS - 7_200_000]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
async def test_pages_hold_every_fix_once_in_order(history: PostgresHistory, writer: PostgresWriter, limit: int) -> None:
    fixes = [make_fix(f"P{n % 4}", n // 4, lat=n) for n in range(20)]
    await writer.store([*fixes, make_fix(race_id="R2")])
    expected = sorted(fixes, key=lambda fix: (fix.timestamp_ms, fix.id))

    async def read(participant: str | None = None, start: int | None = None, end: int | None = None) -> list[Fix]:
        found = await pages(history, HistoryQuery("R1", participant, start, end, limit))
        assert all(len(page.fixes) == limit for page in found[:-1])
        return [fix for page in found for fix in page.fixes]

    assert await read() == expected
    assert await read("P2") == [fix for fix in expected if fix.participant_id == "P2"]
    start, end = BASE_MS + 1000, BASE_MS + 3000
    middle = [fix for fix in expected if start <= fix.timestamp_ms < end]
    assert await read(None, start, end) == middle
    assert await read(None, -(10**20), 10**20) == expected
    assert await read(None, end, start) == []


async def test_rows_of_other_writers_page_to_their_end(database: Database, history: PostgresHistory) -> None:
    await database.run(
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp)"
        " select 'R1', 'P1', 1, 2, '2025-07-01T00:00:00Z'::timestamptz + n * interval '300 microseconds'"
        " from generate_series(0, 19) n"
    )
    found = [fix for page in await pages(history, HistoryQuery("R1", limit=3)) for fix in page.fixes]
    assert len({fix.id for fix in found}) == len(found) == 20
    assert [fix.timestamp_ms - 1_751_328_000_000 for fix in found[:8]] == [0, 0, 0, 0, 1, 1, 1, 2]


async def test_rows_that_are_no_positions_are_left_out(database: Database, history: PostgresHistory) -> None:
    await database.run("alter type participant_status add value 'abducted'")
    await database.run(
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp, status) values"
        " ('R1', 'P1', 'NaN', 1, '2025-07-01', 'moving'), ('R1', 'P2', 1, 'NaN', '2025-07-01', 'moving'),"
        " ('R1', 'P3', 1, 2, 'infinity', 'moving'), ('R1', 'P3', 1, 2, '-infinity', 'moving'),"
        " ('R1', 'P4', 1, 2, '11000-01-01', 'moving'), ('R1', 'P5', 1, 2, '0044-03-15 BC', 'moving'),"
        " ('R1', 'P6', 1, 2, '2025-07-01', 'abducted'), ('R1', 'P7', 1, 2, '2025-07-01', 'moving')"
    )
    assert [fix.participant_id for fix in (await history.history(HistoryQuery("R1"))).fixes] == ["P7"]
    assert [fix.participant_id for fix in await history.newest("R1", SKEW_MS)] == ["P7"]
    assert [race.last_timestamp_ms for race in await history.races()] == [1_751_328_000_000]
    assert len(await pages(history, HistoryQuery("R1", limit=1))) == 4


async def test_a_stream_holds_everything_in_the_order_asked_for(
    history: PostgresHistory, writer: PostgresWriter
) -> None:
    fixes = [make_fix(f"P{n % 3}", n) for n in range(2500)]
    await writer.store(fixes)

    async def read(by_participant: bool) -> list[list[Fix]]:
        async with history.stream(HistoryQuery("R1", limit=1), by_participant) as chunks:
            return [chunk async for chunk in chunks]

    by_time = await read(False)
    assert [len(chunk) for chunk in by_time] == [1000, 1000, 500]
    assert list(itertools.chain(*by_time)) == fixes
    tracks = sorted(fixes, key=lambda fix: (fix.participant_id, fix.timestamp_ms))
    assert list(itertools.chain(*await read(True))) == tracks


@pytest.mark.parametrize("by_participant", [False, True])
async def test_a_stream_left_early_closes_its_connection(
    database: Database, history: PostgresHistory, writer: PostgresWriter, by_participant: bool
) -> None:
    await writer.store([make_fix(f"P{n % 3}", n) for n in range(5000)])
    async with history.stream(HistoryQuery("R3"), by_participant) as chunks:
        assert await anext(chunks, None) is None
    async with history.stream(HistoryQuery("R1"), by_participant) as chunks:
        assert len(await anext(chunks)) == 1000
    with trio.CancelScope() as scope:
        async with history.stream(HistoryQuery("R1"), by_participant) as chunks:
            async for _ in chunks:
                scope.cancel()
    await database.run("""
        set statement_timeout = '10s';
        do $$ begin while exists (select from pg_stat_activity
            where application_name = 'race-tracking reader' and datname = current_database()) loop
          perform pg_sleep(0.01), pg_stat_clear_snapshot();
        end loop; end $$""")


async def test_which_ids_are_of_rejections(history: PostgresHistory, writer: PostgresWriter) -> None:
    row, other = poison(make_fix(), ""), poison(make_fix(at_s=1), "")
    await writer.reject([row])
    assert await history.rejected([row.id, other.id]) == {row.id}
    assert await history.rejected([]) == set()


async def test_rejections_newest_first_by_code_and_race(history: PostgresHistory, writer: PostgresWriter) -> None:
    payloads = [
        b'{"race_id":"R1","status":1}',
        b'{"race_id" : "\\u00521"}',
        b'{"note":"R1","race_id":"R2"}',
        b'{"race_id":"R1',
        b'[{"race_id":"R2"},{"race_id":"R1"},',
        '{"race_id":"Re\u0301"}'.encode(),
        b"\xff",
    ]
    rows = [
        Rejection(bytes([n]) * 16, BASE_MS + n // 2, "t", payload, "bad_json" if n % 2 else "bad_id", "d")
        for n, payload in enumerate(payloads)
    ]
    await writer.reject(rows)

    async def read(race_id: str | None = None, code: str | None = None, limit: int = 100) -> list[int]:
        return [row.id[0] for row in await history.rejections(race_id=race_id, code=code, limit=limit)]

    assert await read() == [6, 5, 4, 3, 2, 1, 0]
    assert await read(limit=2) == [6, 5]
    assert await read(code="bad_json") == [5, 3, 1]
    assert await read(race_id="R1") == [4, 1, 0]
    assert await read(race_id="R1", code="bad_id", limit=1) == [4]
    assert await read(race_id="Ré") == [5]
    first = (await history.rejections(limit=1))[0]
    assert (first.received_ms, first.topic, first.payload, first.detail) == (BASE_MS + 3, "t", b"\xff", "d")


async def test_rejections_of_a_race_are_found_behind_many_others(database: Database, history: PostgresHistory) -> None:
    await database.run(
        "insert into tracking_rejections"
        " select gen_random_uuid(), '2025-07-01'::timestamptz + n / 9 * interval '1 ms', 't',"
        " convert_to('{\"a\":\"\\\\\", \"race_id\":\"R' || n % 400 || '\"}', 'UTF8'), 'bad_id', n::text"
        " from generate_series(1, 2000) n"
    )
    assert [row.detail for row in await history.rejections(race_id="R7")] == ["1607", "1207", "807", "407", "7"]


async def test_connections_are_shared_and_survive_a_restart_of_the_server(
    database: Database, history: PostgresHistory
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(history.races)
    ours = "from pg_stat_activity where application_name = 'race-tracking reader' and datname = current_database()"
    assert await database.rows(f"select (count(*) <= {CONNECTIONS})::text {ours}") == [["true"]]
    await database.run(f"select pg_terminate_backend(pid) {ours}")
    assert await history.races() == []


async def test_a_reader_that_waits_too_long_gives_up(database: Database, history: PostgresHistory) -> None:
    await database.run("begin; lock table tracking_positions")
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
        await history.newest("R1", SKEW_MS, deadline_s=0.2)
    await database.run("rollback")
    assert await history.newest("R1", SKEW_MS) == []


async def test_without_tables_it_is_a_fault_of_the_set_up(database: Database) -> None:
    history = PostgresHistory(database.address)
    with pytest.raises(StoreMisconfigured, match="does not exist"):
        await history.races()
    await history.aclose()


async def test_every_question_goes_along_an_index(database: Database) -> None:
    await migration.apply(database.connection)
    await database.run(
        "insert into tracking_positions (race_id, participant_id, latitude, longitude, client_timestamp)"
        " select 'R' || n % 3, 'P' || n % 60, 1, 2, '2025-07-01'::timestamptz + n * interval '10 ms'"
        " from generate_series(1, 60000) n; analyze"
    )

    async def plan(text: str, params: Params) -> str:
        result = await database.connection.query(f"explain {text}", params.values, params.types)
        lines = ((result.get_value(row, 0) or b"").decode() for row in range(result.ntuples))
        return "\n".join(lines)

    after = (1_751_328_100_000_000, bytes(16))
    for query in (
        HistoryQuery("R1", limit=100),
        HistoryQuery("R1", limit=100, after=after),
        HistoryQuery("R1", limit=100, from_ms=1_751_328_050_000, to_ms=1_751_328_900_000),
        HistoryQuery("R1", "P7", limit=100),
        HistoryQuery("R1", "P7", limit=100, after=after),
    ):
        params = Params()
        text = await plan(reader_sql.page(params, query), params)
        assert "Index Scan" in text
        assert "Seq Scan" not in text
        assert "  Sort  " not in text  # an incremental one sorts what has the same moment, no more
    params = Params()
    text = await plan(reader_sql.newest(params, "R1", SKEW_MS), params)
    assert text.count("idx_tracking_race_participant_timestamp") == 3
    assert "Seq Scan" not in text
    params = Params()
    text = await plan(reader_sql.newest_of_races(params, [f"R{n}" for n in range(100)], SKEW_MS, 1001, 0.1), params)
    assert text.count("idx_tracking_race_participant_timestamp") == 3
    assert "Seq Scan" not in text
    assert "Sort" not in text
    limited = reader_sql.newest_of_races(params := Params(), ["R1", "R2"], SKEW_MS, 7, 10)
    assert (await database.connection.query(limited, params.values, params.types)).ntuples == 14, "of 40"
    assert re.search(r"Function Scan on unnest race .*\n *Filter: .*clock_timestamp", text), "before each race"
    params = Params()
    text = await plan(reader_sql.races(params, None, SKEW_MS, 1000), params)
    assert "idx_tracking_race_timestamp" in text
    assert "on tracking_participant_counts" in text
    assert "on tracking_participants" not in text
    assert "Seq Scan on tracking_positions" not in text
