"""The stores outside the tree and a dashboard, in memory: the Protocols of the drivers, and can be told to fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from actors.core.errors import CacheUnavailable, NoPartition, Partitions, RowRefused, StoreUnavailable
from actors.core.fix import Fix, newest_of
from actors.core.rejection import Rejection
from actors.dashboards.outbox import Outbox
from actors.dashboards.subscriber import Races
from actors.history.queries import HistoryPage, HistoryQuery, RaceSummary, StoredRejection
from actors.history.spool.rows import SpooledBatch
from tests.kit.websocket import texts_of


@attrs.define(eq=False)
class Closes:
    """A driver that is closed once, by the tree, and not used afterwards."""

    closed: bool = attrs.field(default=False, kw_only=True)

    async def aclose(self) -> None:
        self.check_open()
        self.closed = True
        await trio.lowlevel.checkpoint()

    def check_open(self) -> None:
        assert not self.closed, "used after it was closed"


@attrs.define(eq=False)
class FakeStore(Closes):
    """PostgreSQL: rows by id. `trouble` is raised before a call does anything, `late_trouble` after it committed,
    `write_trouble` by writes alone."""

    rows: dict[bytes, Fix] = attrs.field(factory=dict)
    rejected: dict[bytes, Rejection] = attrs.field(factory=dict)
    trouble: Exception | None = None
    late_trouble: Exception | None = None
    write_trouble: Exception | None = None
    make_trouble: Exception | None = None  # of make_partitions alone
    refuse: Callable[[Fix], bool] = lambda _fix: False
    missing: frozenset[str] = frozenset()  # participants for whom there is no partition
    delay_s: float = 0.0
    most_rows: int = 1 << 60  # that it can insert before the driver's deadline
    calls: int = 0
    to_make: list[str] = attrs.field(factory=list)  # partitions that are missing ahead
    to_note: int = 0  # calls of note_partitions for which there is something to do

    async def ping(self) -> None:
        await self._step()

    async def store(self, fixes: Sequence[Fix]) -> int:
        await self._step(self.write_trouble)
        if len(fixes) > self.most_rows:
            raise StoreUnavailable("did not answer in time")
        homeless = {fix.id for fix in fixes if fix.participant_id in self.missing}
        if homeless:
            raise NoPartition("no partition", homeless, await self.partitions())
        if any(self.refuse(fix) for fix in fixes):
            raise RowRefused("numeric field overflow")
        new = {fix.id: fix for fix in fixes if fix.id not in self.rows}
        self.rows.update(new)
        self.calls += 1
        if self.late_trouble is not None:
            trouble, self.late_trouble = self.late_trouble, None
            raise trouble
        return len(new)

    def lost(self) -> int:
        return 0

    async def reject(self, rejections: Sequence[Rejection]) -> int:
        await self._step(self.write_trouble)
        new = {rejection.id: rejection for rejection in rejections if rejection.id not in self.rejected}
        self.rejected.update(new)
        return len(new)

    async def partitions(self) -> Partitions:
        await self._step()
        return Partitions("RANGE (id)", f"all but {sorted(self.missing)}")

    async def note_partitions(self) -> bool:
        await self._step()
        self.to_note -= self.to_note > 0
        return self.to_note > 0

    async def make_partitions(self) -> list[str]:
        await self._step(self.make_trouble)
        made, self.to_make = self.to_make, []
        return made

    async def trim_rejections(self) -> None:
        await self._step()

    async def _step(self, trouble: Exception | None = None) -> None:
        self.check_open()
        await trio.sleep(self.delay_s)
        if self.trouble is not None:
            raise self.trouble
        if trouble is not None:
            raise trouble


@attrs.define(eq=False)
class FakeSpool(Closes):
    """Rows by id, in the order of arrival. `trouble` is raised by put, `broken` by open and oldest."""

    waiting: dict[int, Fix | Rejection] = attrs.field(factory=dict)
    trouble: Exception | None = None
    broken: Exception | None = None
    delay_s: float = 0.0
    remove_s: float = 0.0
    puts: int = 0
    _next: int = 1

    @property
    def rows(self) -> int:
        return len(self.waiting)

    async def open(self) -> int:
        await trio.sleep(self.delay_s)
        if self.broken is not None:
            raise self.broken
        return self.rows

    async def put(self, fixes: Sequence[Fix], rejections: Sequence[Rejection]) -> int:
        self.check_open()
        await trio.sleep(self.delay_s)
        if self.trouble is not None:
            raise self.trouble
        self.puts += 1
        known = {(row.id, row.sent_timestamp) for row in self.waiting.values()}
        rows: list[Fix | Rejection] = [*fixes, *rejections]
        new = {form: row for row in rows if (form := (row.id, row.sent_timestamp)) not in known}
        for row in new.values():
            self.waiting[self._next] = row
            self._next += 1
        await trio.sleep(self.delay_s)
        return len(new)

    async def oldest(self, limit: int, after: int = 0) -> SpooledBatch:
        await trio.sleep(self.delay_s)
        if self.broken is not None:
            raise self.broken
        keys = tuple(key for key in self.waiting if key > after)[:limit]
        rows = {key: self.waiting[key] for key in keys}
        fixes = {key: row for key, row in rows.items() if isinstance(row, Fix)}
        rejections = tuple(row for row in rows.values() if isinstance(row, Rejection))
        return SpooledBatch(keys, tuple(fixes), tuple(fixes.values()), rejections)

    async def remove(self, keys: Sequence[int]) -> None:
        await trio.sleep(self.remove_s or self.delay_s)
        for key in keys:
            self.waiting.pop(key, None)

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        return (await self.newest_of_races([race_id], max_clock_skew_ms=max_clock_skew_ms))[race_id] or []

    async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> dict[str, list[Fix] | None]:
        await trio.sleep(self.delay_s)
        return by_race(race_ids, [row for row in self.waiting.values() if isinstance(row, Fix)])


@attrs.define(eq=False)
class FakeHistory(Closes):
    """The reading side of the same rows."""

    store: FakeStore
    down: bool = False
    delay_s: float = 0.0

    async def newest(self, race_id: str, max_clock_skew_ms: int) -> list[Fix]:
        return (await self.newest_of_races([race_id], max_clock_skew_ms=max_clock_skew_ms))[race_id] or []

    async def newest_of_races(self, race_ids: Sequence[str], max_clock_skew_ms: int) -> dict[str, list[Fix] | None]:
        self.check_open()
        await trio.sleep(self.delay_s)
        if self.down:
            raise StoreUnavailable("down")
        rows = self.store.rows.values()
        return by_race(race_ids, [f for f in rows if f.timestamp_ms - f.arrived_ms <= max_clock_skew_ms])

    async def rejected(self, ids: Sequence[bytes]) -> set[bytes]:
        await trio.sleep(self.delay_s)
        if self.down:
            raise StoreUnavailable("down")
        return self.store.rejected.keys() & ids

    async def races(self, allowed: Sequence[str] | None = None, limit: int = 1000) -> list[RaceSummary]:
        await trio.sleep(self.delay_s)
        if self.down:
            raise StoreUnavailable("down")
        found: list[RaceSummary] = []
        for race_id in {f.race_id for f in self.store.rows.values()}:
            fixes = [f for f in self.store.rows.values() if f.race_id == race_id]
            if allowed is None or race_id in allowed:
                people = len({f.participant_id for f in fixes})
                found.append(RaceSummary(race_id, people, max(f.timestamp_ms for f in fixes)))
        return sorted(found, key=lambda race: -race.last_timestamp_ms)[:limit]

    async def history(self, query: HistoryQuery) -> HistoryPage:
        await trio.sleep(self.delay_s)
        if self.down:
            raise StoreUnavailable("down")
        fixes = sorted(
            (f for f in self.store.rows.values() if f.race_id == query.race_id), key=lambda f: (f.timestamp_ms, f.id)
        )
        page = [f for f in fixes if query.after is None or (f.timestamp_ms, f.id) > query.after][: query.limit + 1]
        more = len(page) > query.limit
        page = page[: query.limit]
        return HistoryPage(tuple(page), (page[-1].timestamp_ms, page[-1].id) if more else None)

    @asynccontextmanager
    async def stream(
        self, query: HistoryQuery, by_participant: bool = False
    ) -> AsyncIterator[AsyncIterator[list[Fix]]]:
        async def chunks() -> AsyncIterator[list[Fix]]:
            yield [f for f in self.store.rows.values() if f.race_id == query.race_id]

        yield chunks()

    async def rejections(
        self, *, race_id: str | None = None, code: str | None = None, limit: int = 100
    ) -> list[StoredRejection]:
        await trio.sleep(self.delay_s)
        return [
            StoredRejection(r.id, r.received_ms, r.topic, r.payload, r.code, r.detail)
            for r in list(self.store.rejected.values())[-limit:]
        ]


@attrs.define(eq=False)
class FakeCache(Closes):
    """Redis: newest wins. `emptied` forgets everything, as FLUSHALL does."""

    live: dict[tuple[str, str], Fix] = attrs.field(factory=dict)
    down: bool = False
    delay_s: float = 0.0
    intact: bool = True
    writes: int = 0

    async def write(self, changes: Sequence[Fix], forget: Collection[str] = ()) -> bool:
        self.check_open()
        await trio.sleep(self.delay_s)
        if self.down:
            raise CacheUnavailable("down")
        for key in [key for key in self.live if key[0] in forget]:
            del self.live[key]
        for fix in changes:
            key = (fix.race_id, fix.participant_id)
            if key not in self.live or fix.rank > self.live[key].rank:
                self.live[key] = fix
        self.writes += bool(changes)
        intact, self.intact = self.intact, True
        return intact

    async def newest(self, race_id: str) -> list[Fix]:
        return (await self.newest_of_races([race_id]))[race_id] or []

    async def newest_of_races(self, race_ids: Sequence[str]) -> dict[str, list[Fix] | None]:
        await trio.sleep(self.delay_s)
        if self.down:
            raise CacheUnavailable("down")
        return by_race(race_ids, self.live.values())

    def emptied(self) -> None:
        self.live.clear()
        self.intact = False


def by_race(race_ids: Sequence[str], fixes: Iterable[Fix]) -> dict[str, list[Fix] | None]:
    """The newest of each participant."""
    found: dict[str, list[Fix]] = {race_id: [] for race_id in race_ids}
    for fix in fixes:
        if fix.race_id in found:
            found[fix.race_id].append(fix)
    return {race_id: newest_of(group) for race_id, group in found.items()}


@attrs.define(eq=False)
class Viewer:
    """A dashboard without a socket, which takes compressed frames: takes what its outbox holds and keeps it decoded."""

    outbox: Outbox = attrs.field(init=False)
    events: list[dict[str, Any]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(1_000_000, self.drain, deflated=True)

    def drain(self) -> None:
        self.events += map(json.loads, texts_of(self.outbox.take(1 << 30)))

    def catch_up(self, races: Races) -> None:
        """Ask for a snapshot of each race that is behind, as a dashboard does."""
        for race_id in self.outbox.behind_due(trio.current_time()):
            races.subscribe(race_id, self.outbox, resync=True)

    def resyncs(self) -> list[list[float]]:
        """The latitudes of each snapshot that was not asked for."""
        return [[p["latitude"] for p in data["positions"]] for data in self.named("race_snapshot") if "resync" in data]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [entry["data"] for entry in self.events if entry["event"] == event]

    def updates(self) -> list[dict[str, Any]]:
        """Positions of every update and batch, in order."""
        found: list[dict[str, Any]] = []
        for entry in self.events:
            if entry["event"] == "position_update":
                found.append(entry["data"])
            elif entry["event"] == "batch_position_update":
                assert len(entry["data"]["positions"]) >= 2
                found += entry["data"]["positions"]
        return found
