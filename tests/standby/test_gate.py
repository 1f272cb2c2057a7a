"""The gate between the reader and the broker: a link like any other to the reader, opened and shut by stand-by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.mqtt.events import BrokerEvent, Connected, Disconnected, GaveWay, ReceiptsDropped, TakenOver
from actors.standby.gate import CLOSE_S, BrokerGate, Told
from tests.kit.fake_broker import FakeBroker, FakeLink


@attrs.define(eq=False)
class Desk:
    """Stands for the reader and for stand-by."""

    broker: FakeBroker = attrs.field(factory=FakeBroker)
    link: FakeLink = attrs.field(init=False)
    gate: BrokerGate = attrs.field(init=False)
    posted: list[BrokerEvent] = attrs.field(factory=list)
    told: list[Told] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.link = self.broker.make_link()
        self.gate = BrokerGate(self.link, self.told.append)


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.gate.run, desk.posted.append)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def test_shut_it_leaves_the_broker_alone_and_says_so(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with running(desk):
        assert desk.posted == [GaveWay()]
        assert desk.broker.links == []
        await desk.gate.away()


async def test_open_the_link_runs_and_all_that_it_says_is_passed_on(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.gate.open()
    async with running(desk):
        assert desk.broker.links == [desk.link]
        assert isinstance(desk.posted[0], Connected)
        assert desk.told == [desk.posted[0]]
        desk.broker.publish({})
        desk.gate.acknowledge(desk.link.epoch, (1,))
        desk.gate.taken()
        assert desk.broker.acknowledged == [1]
        desk.gate.reconnect()
        assert [type(event) for event in desk.told] == [Connected, Disconnected, Connected]
        desk.gate.publish("t/receipt", b"{}")
        assert desk.link.told == [("t/receipt", b"{}")]


async def test_it_opens_and_shuts_as_often_as_wanted(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with running(desk):
        for times in range(3):
            desk.gate.open()
            desk.gate.open()
            await wait_all_tasks_blocked()
            assert len(desk.broker.links) == 1
            desk.gate.shut()
            desk.gate.shut()
            with trio.fail_after(CLOSE_S + 1):
                await desk.gate.away()
            await wait_all_tasks_blocked()
            assert desk.broker.links == []
            assert desk.link.disconnected, "with good-bye: the acknowledgements are out"
            assert desk.posted.count(GaveWay()) == times + 2


async def test_shut_again_before_the_link_ran(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with running(desk):
        desk.gate.open()
        desk.gate.shut()
        await wait_all_tasks_blocked()
        assert desk.broker.links == []
        assert desk.posted == [GaveWay()]


async def test_a_reader_that_holds_holds_on_the_next_turn_as_well(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with running(desk):
        desk.gate.hold(True)
        desk.link.holding = False  # a new run of the link begins without
        desk.gate.open()
        await wait_all_tasks_blocked()
        assert desk.link.holding


async def test_receipts_of_a_node_that_waits_are_counted_as_dropped(autojump_clock: MockClock) -> None:
    """It drained its spool, say. A tracker that waits for one sends its fix again, to the node that reads."""
    desk = Desk()
    async with running(desk):
        desk.gate.publish("t/receipt", b"{}")
        assert desk.posted[-1] == ReceiptsDropped(1, "t/receipt", "it is not this node's turn at the broker")
        assert desk.link.told == []


async def test_another_client_that_wins_is_told_to_stand_by_and_does_not_end_the_daemon(
    autojump_clock: MockClock,
) -> None:
    desk = Desk()
    desk.gate.open()
    async with running(desk):
        taken_over = TakenOver("us", 3, 5.0)
        desk.link.post(taken_over)
        assert desk.told[-1] == taken_over
        assert taken_over not in desk.posted


async def test_a_reader_that_drained_has_left_for_good(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.gate.open()
    async with running(desk):
        assert not desk.gate.left.is_set()
        await desk.gate.disconnect()
        assert desk.link.disconnected
        assert desk.gate.left.is_set()


async def test_a_crash_of_the_reader_leaves_it_open(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.gate.open()
    async with running(desk):
        pass
    assert desk.broker.links == []
    await desk.gate.away()
    async with running(desk):
        assert desk.broker.links == [desk.link]


async def test_the_session_is_not_ended_with_one_of_its_nodes(autojump_clock: MockClock) -> None:
    desk = Desk()
    desk.gate.open()
    async with running(desk):
        desk.gate.leave()
        assert desk.link.leaves == 1
        assert await desk.gate.end_session() == "the session belongs to other nodes too"
        assert not desk.link.ended_session
        assert desk.gate.left.is_set()
