"""Parcels on their way to persistence."""

from __future__ import annotations

import math

import pytest
import trio

from actors.core.parcel import Parcel, PersistenceMessage
from actors.history.mailbox import ParcelMailbox

PARCELS = [Parcel((1, part), "R1", ()) for part in range(4)]


async def test_what_one_turn_brings_is_one_message() -> None:
    send, receive = trio.open_memory_channel[PersistenceMessage](math.inf)
    rows = ParcelMailbox(send)
    rows.send(PARCELS[0])
    with rows.together():
        rows.send(PARCELS[1])
        rows.send(PARCELS[2])
        assert receive.statistics().current_buffer_used == 1
    with rows.together():
        pass
    rows.send(PARCELS[3])
    sent = [receive.receive_nowait() for _ in range(receive.statistics().current_buffer_used)]
    assert sent == [(PARCELS[0],), (PARCELS[1], PARCELS[2]), (PARCELS[3],)]


async def test_a_turn_that_crashes_loses_nothing_of_what_was_done() -> None:
    send, receive = trio.open_memory_channel[PersistenceMessage](math.inf)
    rows = ParcelMailbox(send)

    def turn() -> None:
        with rows.together():
            rows.send(PARCELS[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        turn()
    rows.send(PARCELS[1])
    assert [receive.receive_nowait() for _ in range(2)] == [(PARCELS[0],), (PARCELS[1],)]
