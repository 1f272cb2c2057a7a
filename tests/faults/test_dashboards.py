"""Dashboards that are many, half open, gone, slow or rude: the others get every change meanwhile."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from actors.core.addresses import PostgresAddress
from tests.faults.crowd import Change, RaceDay, Viewer, changes, snapshot
from tests.kit.daemon import Running, until
from tests.kit.expected import fix, now_ms
from tests.kit.metrics import conserved
from tests.kit.station import Station, station
from tests.kit.websocket import PING, PONG, frame

pytestmark = pytest.mark.live

HALF_OPEN = 600
MAX_HANDSHAKES = 500
CROWD = 1000
WAVES = 5  # at most
FILES = 3 * CROWD  # of this process and of the daemon: at least
PINGS = 10_000
GROWTH_MB = 10.0  # noise of the allocator; 1,000 dashboards take 50 to 100 MB
WITHIN_S = 300.0
ROUND_S = 0.1
LONG = "long"  # a race of 1,000 participants: a snapshot of it is 200 kB


@attrs.frozen
class Place:
    """A daemon that all tests here share."""

    at: Station
    running: Running

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.running.process.pid}/fd"))

    @property
    def memory_mb(self) -> float:
        pages = Path(f"/proc/{self.running.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize() / 1e6

    def metric(self, name: str) -> float:
        return self.running.metrics().get(f"tracking_{name}", 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresAddress) -> Iterator[Place]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES:
        pytest.skip(f"{FILES} file descriptors are needed, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES), hard))  # the daemon inherits it
    ws: dict[str, object] = {"send_timeout_ms": 5000, "outbox_bytes": 65536, "max_handshakes": MAX_HANDSHAKES}
    ws["max_requests_per_s"] = 10_000
    app: dict[str, object] = {"stale_data_threshold_ms": 3_600_000}  # nobody becomes stale here
    try:
        folder = tmp_path_factory.mktemp("crowd")
        with station(folder, postgres_server, ws=ws, app=app) as at, at.daemon() as running:
            # Many races are restored at once: connections to the stores that stay are there from now on.
            at.send([fix(f"warm-{n}", at=now_ms()) for n in range(100)], [fix(LONG, f"P{n}") for n in range(1000)])
            running.settled(2)
            yield Place(at, running)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def race_day(place: Place, race: str, participants: int = 20) -> AsyncIterator[RaceDay]:
    """Fixes come and a dashboard watches: it must see every change, whatever happens inside; then all is as before."""
    day = RaceDay(place.at, race, participants)
    seen: list[Change] = []
    files = place.files
    witness = await day.come()
    assert await witness.shown(race) == {}

    async def watch() -> None:
        while True:
            seen.extend(changes(await witness.event()))

    async def publish() -> None:
        while True:
            await day.round()
            await trio.sleep(ROUND_S)

    try:
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as watching:
                watching.start_soon(watch)
                async with trio.open_nursery() as publishing:
                    publishing.start_soon(publish)
                    yield day
                    publishing.cancel_scope.cancel()
                while len(seen) < len(day.sent):
                    await trio.sleep(0.02)
                watching.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            for viewer in day.viewers:
                await viewer.vanish()
    assert seen == day.sent
    until(lambda: place.metric("ws_connections") == 0, "nobody is connected")
    until(lambda: place.files <= files, "every file is closed")
    assert conserved(place.running.settled(place.at.published))
    assert len(place.at.rows(race)) == len(day.sent)
    assert "crashed" not in place.running.log


async def test_half_open_handshakes(place: Place) -> None:
    statuses: Counter[int] = Counter()

    async def half_open() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", place.at.port)
        async with stream:
            statuses[await Viewer(stream).open(b"GET /tracking HTTP/1.1\r\nHost: a\r\n")] += 1

    async def come() -> None:
        viewer = await day.come()
        await viewer.shown("half-open")
        while not changes(await viewer.event()):
            pass
        await viewer.vanish()

    async with race_day(place, "half-open") as day, trio.open_nursery() as nursery:
        for _ in range(HALF_OPEN):
            nursery.start_soon(half_open)
        for _ in range(50):
            nursery.start_soon(come)
    assert set(statuses) <= {408, 503}  # 503 where more come at once than the machine waits for
    assert statuses.total() == HALF_OPEN


async def test_a_crowd_that_vanishes_at_once_and_comes_back(place: Place) -> None:
    crowd: list[Viewer] = []

    async def come() -> None:
        viewer = await day.come()
        assert (await viewer.shown("crowd")).keys() == day.live.keys()
        crowd.append(viewer)

    async def wave() -> float:
        async with trio.open_nursery() as nursery:
            for _ in range(CROWD):
                nursery.start_soon(come)
        assert len(crowd) == CROWD
        while crowd:
            await crowd.pop().vanish()
        await trio.to_thread.run_sync(until, lambda: place.metric("ws_connections") == 1, "only the witness is left")
        return place.memory_mb

    async with race_day(place, "crowd", participants=5) as day:
        # Everybody is live: from now on each snapshot has them all.
        await trio.to_thread.run_sync(until, lambda: len(place.running.live("crowd")) == day.participants)
        memory_mb = [await wave(), await wave()]
        # On a busy machine more of a wave may be there at once than of the one before; a leak shows each time.
        while memory_mb[-1] - memory_mb[-2] >= GROWTH_MB and len(memory_mb) < WAVES:
            memory_mb.append(await wave())
    assert memory_mb[-1] - memory_mb[-2] < GROWTH_MB, memory_mb


async def ask_for_much(viewer: Viewer) -> None:
    """10 MB of answers: more than the kernel holds for a client that reads little."""
    for _ in range(50):
        await viewer.say("subscribe_race", {"raceId": LONG})


async def test_one_that_never_reads_is_dropped(place: Place) -> None:
    def dropped() -> float:
        return place.metric('ws_dropped_total{reason="slow"}')

    before = dropped()
    async with race_day(place, "never") as day:
        viewer = await day.come(receive_bytes=4096)
        await viewer.shown("never")
        await ask_for_much(viewer)
        while dropped() == before or place.metric("ws_connections") > 1:
            await trio.sleep(0.1)
        await viewer.vanish()
    assert dropped() == before + 1


async def test_one_that_reads_slowly_is_shown_the_newest(place: Place) -> None:
    seen: list[Change] = []
    async with race_day(place, "slow", participants=100) as day:
        viewer = await day.come(receive_bytes=4096)
        await viewer.shown("slow")
        await ask_for_much(viewer)
        enough = len(day.sent) + 2000  # changes: six times what its outbox holds
        while len(day.sent) < enough:
            await viewer.read_some()
            await trio.sleep(0.1)
        while not (event := await viewer.event(about="slow"))["data"].get("resync"):
            pass
        shown = snapshot(event)
        while len(seen) < 500:
            event = await viewer.event(about="slow")
            if event["event"] == "race_snapshot":  # on a busy machine it falls behind once more
                shown, seen = snapshot(event), []
            else:
                seen += changes(event)
        await viewer.vanish()
    start = day.sent.index(seen[0])
    assert seen == day.sent[start : start + len(seen)]
    assert shown == dict(day.sent[:start])


async def test_10_000_pings(place: Place) -> None:
    async with race_day(place, "pings") as day:
        viewer = await day.come()
        async with trio.open_nursery() as nursery:  # its task ends a little after the last byte is sent
            nursery.start_soon(viewer.write, b"".join(frame(PING, b"%d" % number) for number in range(PINGS)))
            for number in range(PINGS):
                assert await viewer.frame() == (PONG, b"%d" % number)
        await viewer.vanish()


async def test_one_that_comes_and_goes_1000_times(place: Place) -> None:
    """Each snapshot is where the stream was, and the stream goes on from there; after a good-bye comes nothing."""
    async with race_day(place, "fickle") as day:
        viewer = await day.come()
        live: dict[str, str] = {}
        for number in range(1000):
            shown = await viewer.shown("fickle")
            assert all(shown[who] >= at for who, at in live.items())
            live = shown
            if number % 10 == 0:
                for who, at in changes(await viewer.event()):
                    assert at > live.get(who, "")
                    live[who] = at
            await viewer.say("unsubscribe_race", {"raceId": "fickle"})
            while (event := await viewer.event())["event"] != "race_unsubscribed":
                live.update(changes(event))
        await viewer.vanish()
        day_is_over = len(day.sent)
    assert day_is_over > 1000


async def test_a_token_that_ends_while_its_dashboard_falls_behind(place: Place) -> None:
    """4401, at the latest when the close is all that is left to send; or nothing, where nothing can be sent."""
    async with race_day(place, "expiring", participants=100) as day:
        viewer = await day.come(receive_bytes=4096, lasts_s=3)
        await viewer.shown("expiring")
        await ask_for_much(viewer)
        with trio.fail_after(60):
            assert await viewer.closed() == 4401
        await viewer.vanish()
