"""Messages are cut into events, and every packet id is acknowledged once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.core.mqtt_deliveries import EVENT_BYTES, EVENT_MESSAGES, Deliveries
from actors.core.mqtt_split import Arrivals


def arrived(*messages: tuple[int, bytes]) -> Deliveries:
    """(packet id, payload) each."""
    return Deliveries(Arrivals([(b"t", payload) for _, payload in messages], [packet_id for packet_id, _ in messages]))


def test_events_are_cut_and_taken_once() -> None:
    deliveries = arrived(*((n, b"x") for n in range(1, 2 * EVENT_MESSAGES + 2)))
    events = deliveries.take(3)
    assert [len(event.messages) for event in events] == [EVENT_MESSAGES, EVENT_MESSAGES, 1]
    assert [event.packet_ids for event in events][2] == (2 * EVENT_MESSAGES + 1,)
    assert {event.epoch for event in events} == {3}
    assert deliveries.take(3) == []


def test_large_payloads_cut_too() -> None:
    half = b"x" * (EVENT_BYTES // 2)
    events = arrived((1, half), (2, half), (3, b"y")).take(1)
    assert [(event.packet_ids, event.payload_bytes) for event in events] == [((1, 2), EVENT_BYTES), ((3,), 1)]


def test_a_second_copy_and_an_id_0_are_delivered_and_not_acknowledged() -> None:
    deliveries = arrived((7, b"a"), (0, b"b"), (7, b"c"), (300, b"d"))
    (event,) = deliveries.take(1)
    assert len(event.messages) == 4
    assert event.packet_ids == (7, 300)
    assert deliveries.pubacks((300, 7, 8)) == b"\x40\x02\x01\x2c" + b"\x40\x02\x00\x07"
    assert deliveries.pubacks((7,)) == b""
    deliveries.arrivals.messages, deliveries.arrivals.packet_ids = [(b"t", b"new")], [7]
    assert deliveries.take(1)[0].packet_ids == (7,), "an acknowledged id may come again"


def test_the_oldest_that_was_not_acknowledged_is_missed_or_comes_again() -> None:
    before = arrived((5, b"a"), (6, b"b"), (7, b"c"))
    assert before.oldest == 0
    before.take(1)
    assert before.oldest == 5
    before.pubacks((5,))
    assert before.oldest == 6
    for owed, came, again in ((6, (4, 7), False), (6, (7, 6), True), (0, (0, 6), False)):
        after = arrived(*((packet_id, b"x") for packet_id in came))
        after.owed = owed
        after.take(2)
        assert after.got_back == again
        after.arrivals.packet_ids, after.arrivals.messages = [9], [(b"t", b"y")]
        after.take(2)
        assert after.got_back == again, "once is enough"


@given(st.lists(st.integers(0, 5)))
def test_as_many_pubacks_as_ids_that_wait(ids: list[int]) -> None:
    deliveries = arrived(*((n, b"x") for n in ids))
    taken = [n for event in deliveries.take(1) for n in event.packet_ids]
    assert sorted(taken) == sorted(set(ids) - {0})
    assert len(deliveries.pubacks([*taken, *taken])) == 4 * len(taken)
