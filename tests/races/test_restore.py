"""What a race is told when it starts: nothing slips through between the places where a fix can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
import trio
from trio.testing import MockClock

from actors.core.errors import SpoolUnavailable, StoreUnavailable
from actors.core.fix import Fix
from actors.core.rejection import poison
from actors.races.restore import RESTORE_S, Found, Restorer
from tests.kit.fakes import FakeCache, FakeHistory, FakeSpool, FakeStore
from tests.kit.making import make_fix
from tests.races.race_world import world

SKEW_MS = 300_000


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

        async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
            await trio.sleep(1)
            return await super().newest(race_id, max_clock_skew_ms)

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
        async def newest(self, race_id: str, max_clock_skew_ms: int | None = None) -> list[Fix]:
            raise SpoolUnavailable("no disk")

    fix = make_fix()
    assert await restorer(FakeStore(rows={fix.id: fix}), Broken())("R1") == Found((fix,), False, ())


async def test_without_redis_the_answer_is_complete(autojump_clock: MockClock) -> None:
    """It is a cache: a race that starts while it is away lacks nothing, and does not crash."""
    fix = make_fix()
    ask = Restorer(FakeHistory(FakeStore(rows={fix.id: fix})), FakeCache(down=True), SKEW_MS)
    assert await ask("R1") == Found((fix,), True, ())


async def test_many_races_that_ask_at_once_are_all_answered_in_the_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = 0
    newest = FakeHistory.newest

    async def crowded(history: FakeHistory, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        """The more ask, the longer each of them waits."""
        nonlocal asking
        asking += 1
        try:
            await trio.sleep(0.03 * asking)
            return await newest(history, race_id, max_clock_skew_ms)
        finally:
            asking -= 1

    monkeypatch.setattr(FakeHistory, "newest", crowded)
    async with world(max_races=1000) as w:
        w.route(*(make_fix(race_id=f"R{i}") for i in range(500)))
        await trio.sleep(RESTORE_S + 1)
        assert sum(not state.complete for state in w.races.states.values()) > 300, "too many at once"
        await trio.sleep(30)
        assert all(state.complete for state in w.races.states.values())
        assert len(w.races.states) == 500


async def test_a_position_that_postgresql_refused_does_not_come_back_from_redis(autojump_clock: MockClock) -> None:
    """The daemon ended between the rejection and its correction."""
    old, new = make_fix(at_s=0), make_fix(at_s=1)
    store = FakeStore(rows={old.id: old})
    assert await restorer(store, cached=new)("R1") == Found((new,), True, ()), "on its way to PostgreSQL"
    store.rejected = {(row := poison(new, "")).id: row}
    assert await restorer(store, cached=new)("R1") == Found((old,), True, (new,))
    assert await restorer(store, cached=new)("R1", {new.id}) == Found((old,), True, ())


async def test_while_nobody_can_say_whether_it_was_refused_it_counts(autojump_clock: MockClock) -> None:
    class Half(FakeHistory):
        async def rejected(self, ids: Sequence[bytes]) -> set[bytes]:
            raise StoreUnavailable("gone")

    fix = make_fix()
    cache = FakeCache({("R1", "P001"): fix})
    assert await Restorer(Half(FakeStore()), cache, SKEW_MS)("R1") == Found((fix,), False, ())
