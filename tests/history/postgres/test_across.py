"""A table in partitions by time gives the same answers as any, and only those are touched that are needed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from actors.core.fix import Fix, newest_of
from actors.core.timestamps import DAY_MS, parse_ms
from actors.history.periods import Width
from actors.history.postgres import migration, reader
from actors.history.postgres import reader_sql as sql
from actors.history.postgres.across import FIFTH_INDEX
from actors.history.postgres.attaching import make
from actors.history.postgres.converting import convert
from actors.history.postgres.params import Params
from actors.history.postgres.partitions import is_by_time
from actors.history.postgres.reader import PostgresHistory
from actors.history.postgres.writer import PostgresWriter
from actors.history.queries import HistoryQuery, RaceSummary
from tests.kit.making import BASE_MS, make_fix
from tests.kit.stores import Database

pytestmark = pytest.mark.live

SKEW_MS = 300_000
MONTHS = ("2025-07", "2025-08", "2025-09", "2025-10", "2025-11", "2025-12")


def month_ms(month: str) -> int:
    return parse_ms(f"{month}-01T00:00:00Z") or 0


def fixes_of(race: str, months: Sequence[str]) -> list[Fix]:
    """Of ten participants, at the first moment of each month, the last of the one before, and some between."""
    moments = [month_ms(month) + ms for month in months for ms in (0, 1, 10 * DAY_MS, 20 * DAY_MS + 999)]
    moments += [month_ms(month) - 1 for month in months[1:]]
    at_s = [(ms - BASE_MS) / 1000 for ms in sorted(moments)]
    return [make_fix(f"P{n % 10}", at, race_id=race) for n in range(10) for at in at_s]


RACES = {"twice": fixes_of("twice", ("2025-07", "2025-12")), "once": fixes_of("once", MONTHS[2:4])}


@pytest.fixture
async def history(database: Database) -> AsyncIterator[PostgresHistory]:
    """One race in the first and the last month, another one in two in between."""
    await migration.apply(database.connection)
    await convert(database.connection)
    await make(database.connection, [], Width.MONTH, month_ms(MONTHS[0]))
    writer = PostgresWriter(database.address)
    await writer.store([fix for fixes in RACES.values() for fix in fixes])
    await writer.aclose()
    await database.run("analyze")
    history = PostgresHistory(database.address, SKEW_MS)
    yield history
    await history.aclose()


async def test_what_is_live(history: PostgresHistory) -> None:
    for race, fixes in RACES.items():
        assert newest_of(fixes) == await history.newest(race, SKEW_MS)
    assert await history.newest("nobody", SKEW_MS) == []
    found = await history.newest_of_races(["once", "nobody", "twice"], SKEW_MS)
    assert found == {"once": newest_of(RACES["once"]), "nobody": [], "twice": newest_of(RACES["twice"])}
    summaries = [RaceSummary(race, 10, max(fix.timestamp_ms for fix in RACES[race])) for race in ("twice", "once")]
    assert await history.races() == summaries
    assert await history.races(["once"]) == summaries[1:]


async def test_fixes_that_are_ahead_or_of_one_moment(database: Database, history: PostgresHistory) -> None:
    """And rows of others that are no positions."""
    end_s = (month_ms("2025-11") - BASE_MS) / 1000
    tied = [make_fix("P1", end_s - 0.001, race_id="R", lat=lat, status=status) for lat in (1, 2) for status in (0, 1)]
    ahead = [make_fix("P1", end_s + 400 + n, race_id="R", arrived_s=end_s) for n in range(3)]
    writer = PostgresWriter(database.address)
    await writer.store([*tied, *ahead, make_fix("", end_s, race_id="R")])
    await writer.aclose()
    assert await history.newest("R", SKEW_MS) == [
        make_fix("", end_s, race_id="R"),
        max(tied, key=lambda fix: fix.rank),
    ]
    await database.run("update tracking_positions set client_timestamp = 'infinity' where participant_id = ''")
    assert await history.newest("R", SKEW_MS) == [max(tied, key=lambda fix: fix.rank)]


BOUNDS = [None, month_ms("2025-07") + 1, month_ms("2025-09"), month_ms("2025-10") - 1, month_ms("2025-12") + DAY_MS]


@pytest.mark.parametrize("from_ms", BOUNDS)
async def test_pages_and_exports(history: PostgresHistory, from_ms: int | None) -> None:
    for race, fixes in RACES.items():
        for participant in (None, "P3"):
            for to_ms in BOUNDS[::2]:
                query = HistoryQuery(race, participant, from_ms, to_ms, limit=7)
                expected = sorted(
                    (
                        fix
                        for fix in fixes
                        if participant in (None, fix.participant_id)
                        and (from_ms is None or fix.timestamp_ms >= from_ms)
                        and (to_ms is None or fix.timestamp_ms < to_ms)
                    ),
                    key=lambda fix: (fix.timestamp_ms, fix.id),
                )
                assert await walked(history, query) == expected
                for by_participant in (False, True):
                    async with history.stream(query, by_participant) as chunks:
                        found = [fix async for chunk in chunks for fix in chunk]
                    key: Callable[[Fix], tuple[str, int]] = lambda fix: (fix.participant_id, fix.timestamp_ms)  # noqa: E731
                    assert found == (sorted(expected, key=key) if by_participant else expected)


async def walked(history: PostgresHistory, query: HistoryQuery) -> list[Fix]:
    """Page by page."""
    found: list[Fix] = []
    after = None
    while True:
        page = await history.history(HistoryQuery(
            query.race_id, query.participant_id, query.from_ms, query.to_ms, query.limit, after
        ))  # fmt: skip
        found += page.fixes
        after = page.next
        if after is None:
            return found


async def plan(database: Database, params: Params, text: str, *settings: str) -> str:
    async with database.connection.transaction(*settings):
        result = await database.connection.query(f"explain (analyze) {text}", params.values, params.types)
    return "\n".join((result.get_value(row, 0) or b"").decode() for row in range(result.ntuples))


def touched(text: str) -> set[str]:
    """Months whose partitions were read. Those that are known to be needless from the beginning are not named."""
    scans = re.findall(r"-> .*Scan.* on tracking_positions_(\d{4}_\d\d)(?: \w+)? +\(cost.*", text)
    assert scans
    lines = re.findall(r"-> .*Scan.* on tracking_positions_\d{4}_\d\d.*", text)
    return {
        re.sub(r".* on tracking_positions_(\d{4})_(\d\d).*", r"\1-\2", line)
        for line in lines
        if "never executed" not in line
    }


@pytest.mark.parametrize(
    ("query", "months"),
    [
        (HistoryQuery("twice", None, month_ms("2025-09"), month_ms("2025-10")), {"2025-09"}),
        (HistoryQuery("twice", None, month_ms("2025-09") - 1, month_ms("2025-09") + 1), {"2025-08", "2025-09"}),
        (HistoryQuery("twice", "P1", month_ms("2025-07") + 5 * DAY_MS, month_ms("2025-07") + 6 * DAY_MS), {"2025-07"}),
        (HistoryQuery("twice", "P1", None, month_ms("2025-08")), {"2025-07"}),
    ],
)
async def test_questions_by_time(
    database: Database, history: PostgresHistory, query: HistoryQuery, months: set[str]
) -> None:
    """A page of history, a track, what is replayed, and exports in either order."""
    for build in (sql.page, sql.by_time):
        assert touched(await plan(database, params := Params(True), build(params, query))) == months
    text = sql.group(params := Params(True), query, ["P1", "P2"])
    assert touched(await plan(database, params, text, sql.READ_AND_SORTED)) == months


async def test_a_page_goes_on_where_the_last_one_ended(database: Database, history: PostgresHistory) -> None:
    query = HistoryQuery("twice", to_ms=month_ms("2025-12"), after=(month_ms("2025-11") * 1000 + 1, bytes(16)))
    assert touched(await plan(database, params := Params(True), sql.page(params, query))) == {"2025-11"}


async def test_what_is_live_is_looked_for_in_the_time_of_the_race(database: Database, history: PostgresHistory) -> None:
    """Its first and last row are asked of each partition; then each participant only between them.

    And along the fifth index alone, also where the race was not: others have that order only to who skips rows.
    """
    in_two, in_six = {"once": MONTHS[2:4]}, {"once": MONTHS[2:4], "twice": MONTHS}
    for build, between in (
        (lambda params, race: sql.newest(params, race, SKEW_MS), in_six),
        (lambda params, race: sql.newest_of_races(params, [race], SKEW_MS, 99, 10), in_two),
        (sql.participants, in_two),
    ):
        for race, months in between.items():
            text = await plan(database, params := Params(True), build(params, race), FIFTH_INDEX)
            span, participants = text.split("CTE participant")
            assert {*MONTHS} <= touched(span)
            assert touched(participants) == {*months}
            assert set(re.findall(r"_(\d{4}_\d\d)_(\w+?)(?:_idx\d*|_id_idx) ", participants)) <= {
                (month, name) for month in re.findall(r"\d{4}_\d\d", participants) for name in FIFTH
            }, participants
            assert "Sort" not in participants.replace("Sort Key", "")


FIFTH = ("race_id_participant_id_client_ti", "race_id_participant_id_client_timestamp")


async def test_the_list_of_races_takes_a_step_in_each(database: Database, history: PostgresHistory) -> None:
    """When a race was is not known there."""
    text = await plan(database, params := Params(True), sql.races(params, None, SKEW_MS, 1000))
    assert {*MONTHS} <= touched(text)
    assert "Seq Scan on tracking_positions" not in text
    assert set(re.findall(r"tracking_positions_\d{4}_\d\d_(\w+)_idx ", text)) == {"race_id_client_timestamp"}


async def test_a_table_that_becomes_one_in_partitions_is_noticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By connections that stay, too."""
    await migration.apply(database.connection)
    history = PostgresHistory(database.address, SKEW_MS)
    noted: list[bool] = []
    page = sql.page

    def spy(params: Params, query: HistoryQuery) -> str:
        noted.append(params.in_partitions)
        return page(params, query)

    monkeypatch.setattr(sql, "page", spy)
    for convert_first, look_s in ((False, 0.0), (True, 1000.0), (False, 1000.0)):
        monkeypatch.setattr(reader, "LOOK_S", look_s)
        if convert_first:
            assert await convert(database.connection)
            assert await is_by_time(database.connection)
        await history.history(HistoryQuery("R"))
    assert noted == [False, True, True]
    await history.aclose()
