"""What waits for the relay: in order, and bounded."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.dashboards.frames import Frame
from actors.relay import mailbox
from actors.relay.entry import AGAIN, FRAME, LOOK, Item
from actors.relay.mailbox import RelayMailbox

EVENT = b"x" * 200


def test_all_of_it_is_taken_in_order() -> None:
    box, frame = RelayMailbox(compressing=True), Frame(EVENT)
    box.show("R1", frame)
    box.read_again("R2")
    box.look_again()
    assert box.depth() == 3
    assert box.take() == [Item("R1", FRAME, frame.deflated), Item("R2", AGAIN), Item("", LOOK)]
    assert box.take() == []
    assert not box.dropped


def test_where_dashboards_get_nothing_compressed_neither_do_nodes() -> None:
    box = RelayMailbox(compressing=False)
    box.show("R1", frame := Frame(EVENT))
    assert box.take() == [Item("R1", FRAME, frame.plain)]


def test_too_much_of_it_is_dropped_and_that_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MOST_BYTES", 1000)
    box = RelayMailbox(compressing=False)
    for _ in range(6):
        box.show("R1", Frame(EVENT))
    assert box.dropped
    assert box.depth() < 5
    box.take()
    box.show("R1", Frame(EVENT))
    assert box.depth() == 1


async def test_who_waits_wakes_up() -> None:
    box = RelayMailbox(compressing=False)
    woken: list[int] = []

    async def wait() -> None:
        await box.wait()
        woken.append(box.depth())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert woken == []
        box.read_again("R1")
    assert woken == [1]
