"""What a race is told when it starts: nothing slips through between the places where a fix can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias
from unittest import mock

import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import SpoolUnavailable, StoreUnavailable
from actors.core.fix import Fix
from actors.core.rejection import poison
from actors.races import restore
from actors.races.restore import AGAIN_AT_ONCE, RACES, RESTORE_S, Found, Restorer, _is_ahead
from actors.races.turns import BATCH
from tests.kit.fakes import FakeCache, FakeHistory, FakeSpool, FakeStore
from tests.kit.making import make_fix
from tests.races.race_world import world

SKEW_MS = 300_000
Newest: TypeAlias = dict[str, list[Fix] | None]


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Races of each question to a store from now on, by the store's class."""
    asked: dict[str, list[int]] = {}
    for fake in (FakeHistory, FakeCache, FakeSpool):
        real = fake.newest_of_races

        def count(
            self: object, race_ids: Sequence[str], real: Callable[..., Awaitable[Newest]] = real, **limits: int
        ) -> Awaitable[Newest]:
            asked.setdefault(type(self).__name__, []).append(len(race_ids))
            return real(self, race_ids, **limits)

        monkeypatch.setattr(fake, "newest_of_races", count)
    return asked


def restorer(
    store: FakeStore, spool: FakeSpool | None = None, in_flight: Iterable[Fix] = (), cached: Fix | None = None
) -> Restorer:
    cache = FakeCache({} if cached is None else {(cached.race_id, cached.participant_id): cached})
    return Restorer(FakeHistory(store), cache, SKEW_MS, spool, lambda _race_id: in_flight)


async def test_a_fix_that_is_durable_nowhere_yet_counts(autojump_clock: MockClock) -> None:
    old, new = make_fix(at_s=0), make_fix(at_s=1)
    store = FakeStore(rows={old.id: old})
    assert await restorer(store, in_flight=[new])("R1") == Found((new,), True, ())
    assert await restorer(store, in_flight=[new])("R1", {new.id}) == Found((old,), True, ())


async def test_one_in_flight_from_a_clock_that_is_ahead_hides_nobody(autojump_clock: MockClock) -> None:
    seen, ahead = make_fix(at_s=0), make_fix(at_s=3600, arrived_s=0)
    assert await restorer(FakeStore(rows={seen.id: seen}), in_flight=[ahead])("R1") == Found((seen,), True, ())


async def test_a_row_that_leaves_the_spool_meanwhile_is_found(autojump_clock: MockClock) -> None:
    class Draining(FakeSpool):
        """Its only row is on its way to PostgreSQL."""

        async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> Newest:
            await trio.sleep(1)
            return await super().newest_of_races(race_ids, max_clock_skew_ms)

    fix = make_fix()
    store, spool = FakeStore(), Draining(waiting={1: fix})

    async def drain() -> None:
        await trio.sleep(0.5)
        store.rows[fix.id] = fix
        spool.waiting.clear()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        assert await restorer(store, spool)("R1") == Found((fix,), True, ())


async def test_without_the_spool_the_answer_is_incomplete(autojump_clock: MockClock) -> None:
    class Broken(FakeSpool):
        async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> Newest:
            raise SpoolUnavailable("no disk")

    fix = make_fix()
    assert await restorer(FakeStore(rows={fix.id: fix}), Broken())("R1") == Found((fix,), False, ())


async def test_without_redis_the_answer_is_complete(autojump_clock: MockClock) -> None:
    """It is a cache: a race that starts while it is away lacks nothing, and does not crash."""
    fix = make_fix()
    ask = Restorer(FakeHistory(FakeStore(rows={fix.id: fix})), FakeCache(down=True), SKEW_MS)
    assert await ask("R1") == Found((fix,), True, ())


async def test_thousands_that_ask_at_once_are_few_questions_to_each_store(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(monkeypatch)
    fixes = [make_fix(race_id=f"R{n}") for n in range(2000)]
    store, spool = FakeStore(rows={fix.id: fix for fix in fixes[:1000]}), FakeSpool()
    await spool.put(fixes[1000:], [])
    ask_stores = Restorer(FakeHistory(store), FakeCache(), SKEW_MS, spool)
    found: dict[str, Found] = {}

    async def ask(race_id: str) -> None:
        found[race_id] = await ask_stores(race_id)

    async with trio.open_nursery() as nursery:
        for fix in fixes:
            nursery.start_soon(ask, fix.race_id)
    assert found == {fix.race_id: Found((fix,), True, ()) for fix in fixes}
    for name in ("FakeHistory", "FakeCache", "FakeSpool"):
        assert max(asked[name]) <= RACES
        assert len(asked[name]) < 2 * len(fixes) / RACES


async def test_races_whose_turn_does_not_come_in_time_are_all_answered_in_the_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL takes a second and a half for a question, whatever it is about."""
    asked = counted(monkeypatch)
    async with world(max_races=1000) as w:
        w.history.delay_s = 1.4
        w.route(*(make_fix(race_id=f"R{i}") for i in range(900)))
        await trio.sleep(RESTORE_S + 1)
        assert sum(not state.complete for state in w.races.states.values()) > 400, "too many at once"
        await trio.sleep(30)
        assert all(state.complete for state in w.races.states.values())
        assert len(w.races.states) == 900
    assert len(asked["FakeHistory"]) < 30


async def test_while_postgresql_is_away_few_ask_for_all(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(monkeypatch)
    async with world(max_races=1000) as w:
        w.history.down = True
        w.route(*(make_fix(race_id=f"R{i}") for i in range(900)))
        await trio.sleep(20)
        assert not any(state.complete for state in w.races.states.values())
        # Four times by now, 100 in a question, and one of these 100 alone.
        assert len(asked["FakeHistory"]) <= 4 * 9 * 2 * 2
        w.history.down = False
        await trio.sleep(10)
        assert all(state.complete for state in w.races.states.values())


async def test_while_postgresql_hangs_few_ask_again_at_a_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(monkeypatch)
    async with world(max_races=1000) as w:
        w.history.delay_s = 1000
        w.route(*(make_fix(race_id=f"R{i}") for i in range(900)))
        await trio.sleep(65)
        assert len(w.all_live()) == 900
        again = sum(asked["FakeCache"]) - 900
        assert again == AGAIN_AT_ONCE * (60 // RESTORE_S - 1)
        w.history.delay_s = 0
        await trio.sleep(10)
        assert all(state.complete for state in w.races.states.values())


async def test_redis_is_waited_for(autojump_clock: MockClock) -> None:
    fix = make_fix()
    cache = FakeCache({("R1", "P001"): fix}, delay_s=0.5)
    assert await Restorer(FakeHistory(FakeStore()), cache, SKEW_MS)("R1") == Found((fix,), True, ())


async def test_a_position_that_postgresql_refused_does_not_come_back_from_redis(autojump_clock: MockClock) -> None:
    """The daemon ended between the rejection and its correction."""
    old, new = make_fix(at_s=0), make_fix(at_s=1)
    store = FakeStore(rows={old.id: old})
    assert await restorer(store, cached=new)("R1") == Found((new,), True, ()), "on its way to PostgreSQL"
    store.rejected = {(row := poison(new, "")).id: row}
    assert await restorer(store, cached=new)("R1") == Found((old,), True, (new,))
    assert await restorer(store, cached=new)("R1", {new.id}) == Found((old,), True, ())


async def test_a_position_that_other_nodes_show_is_asked_for_as_well(autojump_clock: MockClock) -> None:
    old, new = make_fix(at_s=0), make_fix(at_s=1)
    store = FakeStore(rows={old.id: old})
    assert await restorer(store).again("R1", (), [new]) == Found((new,), True, ()), "on its way to PostgreSQL"
    store.rejected = {(row := poison(new, "")).id: row}
    assert await restorer(store).again("R1", (), [new]) == Found((old,), True, (new,))


async def test_of_thousands_that_only_redis_knows_each_is_looked_for(autojump_clock: MockClock) -> None:
    fixes = [make_fix(f"P{n}", n, race_id=f"R{n % 3}") for n in range(1000)]
    store = FakeStore(rejected={(row := poison(fix, "")).id: row for fix in fixes[::2]})
    ask = Restorer(FakeHistory(store), FakeCache({(fix.race_id, fix.participant_id): fix for fix in fixes}), SKEW_MS)
    for race in range(3):
        found = await ask(f"R{race}")
        assert set(found.refused) == {fix for n, fix in enumerate(fixes) if n % 3 == race and n % 2 == 0}
        assert set(found.fixes) == {fix for n, fix in enumerate(fixes) if n % 3 == race and n % 2 == 1}


async def test_of_a_large_race_some_are_compared_in_a_turn(autojump_clock: MockClock) -> None:
    """What runs beside it sees all steps."""
    fixes = [make_fix(f"P{n}") for n in range(5 * BATCH)]
    newer = [make_fix(f"P{n}", 1) for n in range(0, len(fixes), 2)]
    store = FakeStore(rows={fix.id: fix for fix in fixes})
    cache = FakeCache({(fix.race_id, fix.participant_id): fix for fix in (*fixes, *newer)})
    in_flight = [make_fix(f"P{n}", 2) for n in range(3 * BATCH)]
    compared = 0

    def count(fix: Fix, newest: dict[str, Fix]) -> bool:
        nonlocal compared
        compared += 1
        return _is_ahead(fix, newest)

    async def look_on() -> None:
        looked = 0
        while True:
            assert compared - looked <= 2 * BATCH, "the last two are one step"
            looked = compared
            await trio.lowlevel.checkpoint()

    with mock.patch.object(restore, "_is_ahead", count):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_on)
            found = await Restorer(FakeHistory(store), cache, SKEW_MS, in_flight=lambda _race_id: in_flight)("R1")
            nursery.cancel_scope.cancel()
    assert compared > 13 * BATCH
    assert {fix.participant_id: fix for fix in found.fixes} == {
        fix.participant_id: fix for fix in (*fixes, *newer, *in_flight)
    }


async def test_while_nobody_can_say_whether_it_was_refused_it_counts(autojump_clock: MockClock) -> None:
    class Half(FakeHistory):
        async def rejected(self, ids: Sequence[bytes]) -> set[bytes]:
            raise StoreUnavailable("gone")

    fix = make_fix()
    cache = FakeCache({("R1", "P001"): fix})
    assert await Restorer(Half(FakeStore()), cache, SKEW_MS)("R1") == Found((fix,), False, ())
