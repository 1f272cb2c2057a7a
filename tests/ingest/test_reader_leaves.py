"""The reader of a node that leaves: it goes on until its session is empty, ends that, and then itself."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.ingest.leaving import QUIET_S
from actors.ingest.messages import Leave, StopTaking
from actors.mqtt.events import Disconnected, Unsubscribed
from tests.ingest.reader_world import payload, running, world


async def test_what_waits_is_taken_first(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(Leave(catch_up=False))
        await trio.sleep(0.5)
        assert w.link.leaves == 1
        assert w.health.components["broker"].detail == "leaving: the broker deals nothing new to this node"
        w.broker.publish(payload("late"))  # as what the session still holds
        await trio.sleep(10)
        assert not w.link.disconnected  # it is not settled yet
        await w.settle(*w.routed.parcels)
        await trio.sleep(3 * QUIET_S)
    leaving = w.reader.state.leaving
    assert leaving is not None
    assert (leaving.left, leaving.messages, leaving.why_not) == (True, 1, "")
    assert w.link.ended_session
    assert w.broker.acknowledged == [1]
    assert w.link.leaves >= 2
    assert w.health.components["broker"].detail == "stopped"


async def test_a_session_that_stays(autojump_clock: MockClock) -> None:
    w = world()
    w.link.keeps_session = "the broker refused us"
    async with running(w):
        w.inbox.send_nowait(Leave(catch_up=True))
        await trio.sleep(10 * QUIET_S)
    leaving = w.reader.state.leaving
    assert leaving is not None
    assert (leaving.left, leaving.why_not) == (False, "the broker refused us")


async def test_stopped_on_the_way_the_session_is_kept(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(Leave(catch_up=False))
        await trio.sleep(0.5)
        w.inbox.send_nowait(StopTaking())
        await wait_all_tasks_blocked()
        assert w.link.disconnected
    assert not w.link.ended_session


@pytest.mark.parametrize("what", ["the connection", "the reader"])
async def test_what_is_lost_on_the_way_begins_anew(autojump_clock: MockClock, what: str) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(Leave(catch_up=False))
        await trio.sleep(0.5)
        if what == "the connection":
            w.inbox.send_nowait(Disconnected(1, "lost"))
            await trio.sleep(60)
            assert not w.link.disconnected  # nobody has answered
            w.inbox.send_nowait(Unsubscribed(w.link.leaves))  # on the next one
            await trio.sleep(3 * QUIET_S)
    if what == "the reader":
        w.reader.state.after_crash()
        before = w.link.leaves
        async with running(w):
            await trio.sleep(4 * QUIET_S)
        assert w.link.leaves > before
    assert w.link.ended_session
