"""Who reads, under a simulated clock: PostgreSQL, the broker and the nodes come, go and lose sight of each other."""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.mqtt.rival import TIMES
from actors.standby.turn import BEATEN_REST_S, HEAD_START_S, PATIENCE_S
from actors.telemetry.health import Component
from tests.standby.simulated import FREED_S, Cluster, SimulatedNode, cluster


async def reading(world: Cluster, *waiting: SimulatedNode, first: SimulatedNode) -> None:
    """The first of them reads, all others wait."""
    await world.start(first)
    await world.until_reading(first)
    await world.start(*waiting)
    await trio.sleep(2 * HEAD_START_S)


async def test_the_first_start_waits_for_postgresql(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path) as world:
        world.postgres.up = False
        await world.start(*world.nodes)
        await trio.sleep(60)
        assert world.readers() == []
        assert {node.standby.health.components["ingest"].up for node in world.nodes} == {False}
        world.postgres.up = True
        assert HEAD_START_S < await world.until_reading() < HEAD_START_S + 2
        await trio.sleep(60)
        assert len(world.readers()) == 1
        assert all(node.standby.answers() > 60 for node in world.nodes)
        assert [node.standby.health.ingest for node in world.nodes].count("waiting") == 2
        assert {node.standby.health.components["ingest"].up for node in world.nodes} == {True}


async def test_a_table_that_is_not_as_it_should_be_is_said_until_it_is_mended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with cluster(tmp_path, "ab") as world:
        world.postgres.wrong = "permission denied for table tracking_sessions"
        await world.start(*world.nodes)
        await trio.sleep(30)
        assert world.readers() == []
        assert world.postgres.holder is None
        told = [node.standby.health.components["ingest"] for node in world.nodes]
        assert Component(up=False, detail=world.postgres.wrong) in told
        world.postgres.wrong = ""
        assert await world.until_reading() < 10


async def test_who_begins_to_read_is_not_ready_before_the_broker_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with cluster(tmp_path, "a") as world:
        (a,) = world.nodes
        world.broker.up = False
        await world.start(a)
        a.standby.health.up("broker", "not this node's turn")
        with trio.fail_after(10):
            while a.standby.health.ingest != "reading":
                await trio.sleep(0.01)
        assert a.standby.health.components["broker"] == Component(up=False, detail="starting")


async def test_killed_another_reads_within_a_second(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        await a.kill()
        assert await world.until_reading() < 1
        await world.start(a)
        await trio.sleep(60)
        assert len(world.readers()) == 1
        assert not a.reads
        assert world.broker.thrown_out == []
        seen = [node.standby.metrics.registry.get_sample_value for node in world.nodes]
        assert sum(value("tracking_ingest_reading") or 0 for value in seen) == 1
        assert [value("tracking_ingest_takeovers_total") for value in seen].count(1) == 1, "a is in its second life"


async def test_stopped_another_reads_within_a_second(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        await a.stop()
        assert await world.until_reading() < 1
        assert not a.standby.parts.mark.is_set


async def test_restarted_one_after_the_other_without_a_pause(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path, "ab") as world:
        a, b = world.nodes
        await reading(world, b, first=a)
        for _ in range(3):
            for node, other in ((a, b), (b, a)):
                await node.stop()
                assert await world.until_reading(other) < 1
                await world.start(node)
                await trio.sleep(1)


async def test_a_node_that_stops_begins_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path, "ab") as world:
        a, b = world.nodes
        await reading(world, b, first=a)
        b.stopping = True  # and its drain takes a while
        await a.kill()
        await trio.sleep(30)
        assert world.readers() == []
        assert world.postgres.holder is None


async def test_who_read_last_goes_on_without_postgresql(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        world.postgres.up = False
        await trio.sleep(60)
        assert a.reads_for_all
        assert a.standby.health.components["ingest"].detail == "reading without the lock: connection lost"
        assert not b.standby.health.components["ingest"].up
        world.postgres.up = True
        await trio.sleep(60)
        assert world.readers() == [a]
        assert world.postgres.holder is a.standby.parts.lock
        assert world.broker.thrown_out == []


@pytest.mark.parametrize("orderly", [True, False])
async def test_who_read_last_reads_after_a_restart_without_postgresql(
    tmp_path: Path, autojump_clock: MockClock, orderly: bool
) -> None:
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        world.postgres.up = False
        await trio.sleep(10)
        await (a.stop() if orderly else a.kill())
        await trio.sleep(30)
        assert world.readers() == []
        await world.start(a)
        assert await world.until_reading(a) < 5


async def test_a_reader_that_cannot_reach_postgresql_alone_is_relieved(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The new one ends its connection to the broker. It comes back once, is thrown out again, and knows."""
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        world.postgres.cut.add("a")
        await trio.sleep(15)
        assert len(world.readers()) == 1
        assert not a.reads
        assert len(world.broker.thrown_out) <= 3
        thrown_out = len(world.broker.thrown_out)
        world.postgres.cut.clear()
        await trio.sleep(60)
        assert len(world.broker.thrown_out) == thrown_out
        assert not a.reads


async def test_the_loss_of_a_host(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        world.postgres.cut.add("a")
        world.broker.cut.add("a")
        assert await world.until_reading(within_s=10) == 0, "the broker has not noticed"
        with trio.fail_after(10):
            while not (b.reads_for_all or c.reads_for_all):
                await trio.sleep(0.05)


async def test_a_holder_without_the_broker_lets_another_try(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path, "ab") as world:
        a, b = world.nodes
        await reading(world, b, first=a)
        world.broker.cut.add("a")
        await trio.sleep(PATIENCE_S + 5)
        assert b.reads_for_all
        assert not a.reads
        world.broker.cut = {"b"}
        await trio.sleep(PATIENCE_S + 5)
        assert a.reads_for_all


async def test_without_the_broker_for_all_somebody_keeps_trying(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path) as world:
        a, b, c = world.nodes
        await reading(world, b, c, first=a)
        world.broker.up = False
        await trio.sleep(60)
        world.broker.up = True
        assert await world.until_reading() < 5


async def test_two_holders_of_the_lock_do_not_go_on_throwing_each_other_out(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A lock is not copied to a standby: who stays with the old primary holds that one's."""
    async with cluster(tmp_path, "ab") as world:
        a, b = world.nodes
        await reading(world, b, first=a)
        promoted = attrs.evolve(world.postgres, holder=None, sessions={})
        b.postgres = promoted
        await b.kill()
        await trio.sleep(1)
        await world.start(b)
        await trio.sleep(BEATEN_REST_S - 5)
        assert len(world.readers()) == 1
        assert sum(node.reads_for_all for node in world.nodes) == 1
        assert 1 <= len(world.broker.thrown_out) <= 2 * TIMES


async def test_a_crash_of_stand_by_does_not_end_reading(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path, "ab") as world:
        a, b = world.nodes
        await reading(world, b, first=a)
        before = a.link.connected
        await a.crash()
        await trio.sleep(10)
        assert a.reads_for_all
        assert a.link.connected == before
        assert world.postgres.holder is a.standby.parts.lock


async def test_what_the_session_holds_is_handed_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with cluster(tmp_path, "ab") as world:
        a, b = world.nodes
        a.wanted, b.wanted = ("t/+", "old/+"), ("t/+",)
        await reading(world, b, first=a)
        assert world.postgres.row == (frozenset({"t/+", "old/+"}), False), "before anything is asked for at the broker"
        a.standby.parts.topics.write(frozenset(a.wanted), granted=True)
        await trio.sleep(2)
        assert world.postgres.row == (frozenset({"t/+", "old/+"}), True)
        await a.kill()
        await world.until_reading(b)
        assert b.standby.parts.topics.read() == {"t/+", "old/+"}, "so that what is not wanted is unsubscribed"
        assert b.standby.parts.topics.granted()
        b.standby.parts.topics.write(frozenset(b.wanted), granted=True)
        await trio.sleep(2)
        assert world.postgres.row == (frozenset({"t/+"}), True)


async def test_the_first_of_all_tells_what_it_knows_from_before(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It read alone until today."""
    async with cluster(tmp_path, "a") as world:
        (a,) = world.nodes
        a.folder.mkdir()
        (a.folder / "mqtt_topics.json").write_text('{"simulated": ["old/+"]}')
        await reading(world, first=a)
        assert world.postgres.row == (frozenset({"t/+", "old/+"}), True)


# --- any faults, in any order ------------------------------------------------------------------------------------

NAMES = "abc"


@attrs.frozen
class Weather:
    """What cannot be reached for a while, and what happens to nodes at its beginning."""

    lasts_s: float
    postgres_up: bool
    broker_up: bool
    from_postgres: frozenset[str]  # nodes that are cut off
    from_broker: frozenset[str]
    killed: frozenset[str]
    started: frozenset[str]


nobody: frozenset[str] = frozenset()
some = st.sampled_from([frozenset(subset) for size in (1, 2, 3) for subset in combinations(NAMES, size)])
seldom = st.sampled_from((True,) * 5 + (False,)).flatmap(lambda quiet: st.just(nobody) if quiet else some)
often = st.booleans().flatmap(lambda quiet: st.just(nobody) if quiet else some)
mostly = st.sampled_from((True,) * 4 + (False,))
weather = st.builds(
    Weather, st.sampled_from((0.3, 1.0, 3.0, 6.0, 12.0, 40.0)), mostly, mostly, often, seldom, seldom, some
)

CALM_S = 40.0
"""In which everything that a change sets going has come to its end."""


async def live_through(world: Cluster, changes: list[Weather]) -> None:
    by_name = {node.name: node for node in world.nodes}
    for now in changes:
        world.postgres.up, world.postgres.cut = now.postgres_up, set(now.from_postgres)
        world.broker.up, world.broker.cut = now.broker_up, set(now.from_broker)
        if not now.broker_up:
            world.broker.client = None
        for name in sorted(now.killed):
            if by_name[name].lives:
                await by_name[name].kill()
        await wait_all_tasks_blocked()
        for name in sorted(now.started):
            if not by_name[name].lives:
                await world.start(by_name[name])
        await trio.sleep(now.lasts_s)
        able = [node for node in world.nodes if node.lives and world.broker.reaches(node.name)]
        able = [node for node in able if world.postgres.reaches(node.name)]
        if now.lasts_s >= CALM_S and able:
            assert any(node.reads_for_all for node in world.nodes), "somebody could read, and nobody does"


async def simulate(changes: list[Weather]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(Path(folder), NAMES) as world:
            await world.start(*world.nodes)
            await world.until_reading()
            await live_through(world, changes)
            all_well = Weather(CALM_S, True, True, nobody, nobody, nobody, frozenset(NAMES))
            await live_through(world, [all_well])
            (reader,) = world.readers()
            assert reader.reads_for_all
            assert world.postgres.holder is reader.standby.parts.lock
            assert all(node.standby.parts.mark.is_set == (node is reader) for node in world.nodes)
            thrown_out = len(world.broker.thrown_out)
            await trio.sleep(CALM_S)
            assert (world.readers(), len(world.broker.thrown_out)) == ([reader], thrown_out)
            assert world.longest_both_read_s < FREED_S + 6


@settings(max_examples=40)
@given(st.lists(weather, max_size=5))
def test_whatever_fails_one_reads_in_the_end_and_two_never_for_long(changes: list[Weather]) -> None:
    trio.run(simulate, changes, clock=MockClock(autojump_threshold=0))
