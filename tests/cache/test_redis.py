"""The cache against a real Valkey: newest wins, and what is forgotten is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import Any

import pytest
import redis
import trio
from structlog.testing import capture_logs

from actors.cache import calls
from actors.cache import redis as redis_driver
from actors.cache.calls import Call, Command
from actors.cache.connections import _Line
from actors.cache.redis import RedisStore
from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable
from actors.core.fix import Fix
from tests.cache.redis_desk import LAST, Raw, only_server
from tests.kit.making import BASE_MS, make_fix

pytestmark = pytest.mark.live


async def test_keys_and_values_are_those_of_the_contract(store: RedisStore, raw: Raw) -> None:
    await store.write([make_fix(arrived_s=0.512), make_fix("P002", 1)])
    assert raw.value(LAST) == {
        "participantId": "P001", "raceId": "R1", "latitude": -7.9456, "longitude": 112.6145,
        "timestamp": "2025-07-01T08:15:30.000Z", "receivedAt": "2025-07-01T08:15:30.512Z", "status": "moving",
    }  # fmt: skip
    assert raw("ZRANGE", "race:R1:seen", 0, -1, "WITHSCORES") == [
        b"P001", str(BASE_MS).encode(), b"P002", str(BASE_MS + 1000).encode(),
    ]  # fmt: skip
    for key in (LAST, "race:R1:seen", "race:R1:rank"):
        assert 590 <= raw("TTL", key) <= 600


async def test_only_greater_positions_are_taken(store: RedisStore, raw: Raw) -> None:
    low, high = sorted((make_fix(at_s=5, lat=1), make_fix(at_s=5, lat=2)), key=lambda fix: fix.rank)
    steps = [
        (make_fix(at_s=3), True), (make_fix(at_s=2), False), (make_fix(at_s=2, status=3), False), (low, True),
        (high, True), (low, False), (make_fix(at_s=5, status=1), True), (high, False), (make_fix(at_s=6), True),
    ]  # fmt: skip
    newest = None
    for fix, taken in steps:
        await store.write([fix])
        newest = fix if taken else newest
        assert await store.newest("R1") == [newest]
        assert newest is not None
        assert raw("ZSCORE", "race:R1:seen", "P001") == newest.timestamp_ms


async def test_a_race_that_is_forgotten_leaves_nothing_and_begins_again(store: RedisStore, raw: Raw) -> None:
    others = [make_fix(race_id="R2"), make_fix(race_id="R10")]
    await store.write([make_fix(at_s=9), make_fix("P002", at_s=9), *others])
    assert await store.write([make_fix(at_s=1)], {"R1", "never seen"}) is True
    assert await store.newest("R1") == [make_fix(at_s=1)]
    assert await store.write([], {"R1"}) is True
    assert raw("KEYS", "race:R1:*") == []
    assert [await store.newest(fix.race_id) for fix in others] == [[fix] for fix in others]
    raw("SET", "race:R1:seen", b"somebody else's")
    assert await store.write([make_fix(at_s=2)], {"R1"}) is True
    assert await store.newest("R1") == [make_fix(at_s=2)]


async def test_a_big_race_is_forgotten_before_the_first_of_its_positions_is_written(store: RedisStore) -> None:
    """What is written takes several runs of the script."""
    await store.write([make_fix(f"P{n}", at_s=9) for n in range(1100)])
    back = [make_fix(f"P{n}", at_s=n / 1000) for n in range(1099)]
    await store.write(back, {"R1"})
    assert await store.newest("R1") == back


async def test_a_large_write_is_packed_in_turns(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = 0

    def count(fixes: Sequence[Fix], *more: Any) -> Call:
        nonlocal packed
        packed += len(fixes)
        return write(fixes, *more)

    write = calls._write
    monkeypatch.setattr(calls, "_write", count)
    seen = [0]

    async def look_on() -> None:
        while True:
            seen.append(packed)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_on)
        await store.write([make_fix(f"P{n}") for n in range(5 * calls.SCRIPT_ROWS)])
        nursery.cancel_scope.cancel()
    assert max(after - before for before, after in pairwise(seen)) <= 2 * calls.SCRIPT_ROWS
    assert packed == 5 * calls.SCRIPT_ROWS


async def test_positions_of_another_writer_are_not_put_back(store: RedisStore, raw: Raw) -> None:
    raw("SET", LAST, b"whatever")
    raw("ZADD", "race:R1:seen", BASE_MS + 5000, "P001")
    await store.write([make_fix(at_s=4.999)])
    assert raw("GET", LAST) == b"whatever"
    await store.write([make_fix(at_s=5)])
    assert await store.newest("R1") == [make_fix(at_s=5)]


async def test_many_positions_of_many_races_are_one_call(store: RedisStore, raw: Raw) -> None:
    fixes = [make_fix(f"P{n}", n, race_id=f"R{n % 20}") for n in range(1234)]
    await store.write(fixes)
    found = [fix for n in range(20) for fix in await store.newest(f"R{n}")]
    assert sorted(found, key=lambda fix: fix.rank) == fixes
    big = [make_fix(f"B{n}", n, race_id="B") for n in range(1100)]
    await store.write(big)
    assert await store.newest("B") == big
    assert await store.newest("none") == []


async def test_the_newest_of_many_races_are_those_of_each(store: RedisStore, raw: Raw) -> None:
    fixes = [make_fix(f"P{n}", n, race_id=f"R{n % 20}") for n in range(1234)]
    await store.write(fixes)
    raw("DEL", "race:R1:participant:P1:last")
    raw("SET", "race:R2:participant:P2:last", b"{}")
    raw("ZADD", "race:R3:seen", 1, b"\xff\xfe")
    races = ["none", *(f"R{n}" for n in range(20))]
    with capture_logs() as logs:
        found = await store.newest_of_races(races)
    assert [(entry["race_id"], entry["count"]) for entry in logs] == [("R2", 1)]
    assert found == {race: await store.newest(race) for race in races}
    assert sum(len(some or ()) for some in found.values()) == 1234 - 2
    assert await store.newest_of_races([]) == {}


async def test_of_many_races_a_large_one_is_left_to_a_question_of_its_own_and_others_to_the_next(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {"R9": 9, "R3": 3, "R4": 4, "R2": 2, "R1": 1}
    fixes = {race: [make_fix(f"P{n}", n, race_id=race) for n in range(count)] for race, count in people.items()}
    await store.write([fix for some in fixes.values() for fix in some])
    monkeypatch.setattr(redis_driver, "MANY_KEYS", 4)
    monkeypatch.setattr(redis_driver, "READ_MOST", 6)
    monkeypatch.setattr(redis_driver, "READ_KEYS", 2)
    assert await store.newest_of_races(list(people)) == {
        "R9": None, "R3": fixes["R3"], "R2": fixes["R2"], "R1": fixes["R1"],
    }  # fmt: skip
    assert await store.newest_of_races(["R4"]) == {"R4": fixes["R4"]}
    assert await store.newest("R9") == fixes["R9"]


async def test_an_emptied_cache_is_noticed_by_the_next_write(store: RedisStore, raw: Raw) -> None:
    assert await store.write([make_fix()]) is False
    assert await store.write([make_fix()]) is True
    raw("FLUSHALL")
    raw("SCRIPT", "FLUSH")
    assert await store.write([make_fix()]) is False
    assert await store.write([]) is True


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Calls arrive, their answers are lost."""
    ask = _Line.ask

    def arrive_only(line: _Line, commands: Sequence[Command]) -> list[Any]:
        ask(line, commands)
        raise redis.TimeoutError

    @contextmanager
    def context() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(_Line, "ask", arrive_only)
            with pytest.raises(CacheUnavailable):
                yield

    return context


async def rest(store: RedisStore) -> None:
    """Until the breaker lets calls through again."""
    await trio.sleep_until(only_server(store)._resting_until)


@pytest.mark.parametrize("positions", [[make_fix()], []], ids=["positions", "none"])
async def test_a_write_whose_answer_was_lost_is_no_emptied_cache(
    store: RedisStore, raw: Raw, deaf: Callable[[], AbstractContextManager[None]], positions: list[Fix]
) -> None:
    await store.write([make_fix()])
    for lost in range(1, 3):
        for _ in range(lost):
            with deaf():
                await store.write(positions)
            await rest(store)
        assert await store.write(positions) is True
    # But where it was the first one after a FLUSHALL, nobody was told then.
    raw("FLUSHALL")
    for _ in range(2):
        with deaf():
            await store.write(positions)
        await rest(store)
    assert await store.write(positions) is False
    assert await store.write(positions) is True


async def test_a_cache_that_goes_back_to_an_older_state_is_noticed(
    store: RedisStore, raw: Raw, deaf: Callable[[], AbstractContextManager[None]]
) -> None:
    """As one that is killed and reads its last snapshot."""
    await store.write([make_fix()])
    (mark,) = raw("KEYS", "tracking:node:*")
    for lost in (False, True, False):
        if lost:
            with deaf():
                await store.write([make_fix()])
            await rest(store)
        older = raw("GET", mark)
        assert await store.write([make_fix()]) is True
        raw("SET", mark, older)
        assert await store.write([]) is False
        assert await store.write([]) is True
    for change in (("DEL", mark), ("SET", mark, "what"), ("DEL", mark), ("LPUSH", mark, "somebody else's")):
        raw(*change)
    assert await store.write([]) is False
    assert await store.write([]) is True


async def test_daemons_of_one_name_do_not_take_each_others_writes_for_an_emptied_cache(
    store: RedisStore, raw: Raw
) -> None:
    """And with nothing to write nothing is written."""
    other = RedisStore(store.address, store.node_id, store.ttl_s)
    both = (store, other)
    for one in both:
        await one.write([make_fix()])
    raw("CONFIG", "RESETSTAT")
    for one in both * 3:
        assert await one.write([]) is True
    assert b"cmdstat_set:" not in raw("INFO", "commandstats")
    for one in both:
        assert await one.write([make_fix(at_s=1)]) is True
    raw("FLUSHALL")
    assert [await one.write([]) for one in both] == [False, False]
    assert [await one.write([]) for one in both] == [True, True]
    assert len(raw("KEYS", "tracking:node:*")) == 2
    await other.aclose()


@pytest.mark.parametrize("ttl_s", [1, 604_800])
async def test_what_a_daemon_of_long_ago_left_goes_soon_but_not_before_the_next_look(
    redis_process: tuple[RedisAddress, int], raw: Raw, ttl_s: int
) -> None:
    store = RedisStore(redis_process[0], "node-1", ttl_s)
    for positions in ([make_fix()], []):
        await store.write(positions)
        (mark,) = raw("KEYS", "tracking:node:node-1:*")
        assert 3590 <= raw("TTL", mark) <= 3600
        raw("EXPIRE", mark, 60)
    await store.aclose()


async def test_values_that_are_no_positions_are_left_out_and_said(store: RedisStore, raw: Raw) -> None:
    await store.write([make_fix("P1"), make_fix("P2"), make_fix("P3")])
    good = raw.value("race:R1:participant:P1:last")
    bad: list[bytes] = [b"", b"\xff", b"null", b"[1]"]
    changes: list[dict[str, object]] = [
        {"latitude": 91}, {"longitude": "x"}, {"timestamp": "yesterday"}, {"status": "MOVING"}, {"raceId": "R2"},
        {"participantId": "P9"}, {"latitude": 1e999},
    ]  # fmt: skip
    bad += [json.dumps({**good, **change}).encode() for change in changes]
    for value in bad:
        raw("SET", "race:R1:participant:P1:last", value)
        with capture_logs() as logs:
            assert await store.newest("R1") == [make_fix("P2"), make_fix("P3")]
        assert [entry["count"] for entry in logs] == [1]
    raw("DEL", "race:R1:participant:P1:last")
    raw("ZADD", "race:R1:seen", 1, b"\xff\xfe")
    assert await store.newest("R1") == [make_fix("P2"), make_fix("P3")]


async def test_a_value_without_the_time_of_arrival_counts(store: RedisStore, raw: Raw) -> None:
    await store.write([make_fix()])
    value = raw.value(LAST)
    del value["receivedAt"]
    raw("SET", LAST, json.dumps(value | {"more": [1]}))
    assert await store.newest("R1") == [make_fix()]
