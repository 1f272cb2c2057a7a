"""Messages are cut into events; every packet id is acknowledged once, when all that came under it is durable."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt.deliveries import DROPS_TOPIC, EVENT_BYTES, EVENT_MESSAGES, NOTHING, Deliveries
from actors.mqtt.events import BrokerDropped, CopiesDropped, MessagesArrived
from actors.mqtt.splitter import AT_QOS_2, Arrivals


def arrived(*messages: tuple[int, bytes]) -> Deliveries:
    """(packet id, payload) each."""
    deliveries = Deliveries(Arrivals())
    arrive(deliveries, *messages)
    return deliveries


def arrive(deliveries: Deliveries, *messages: tuple[int, bytes]) -> None:
    deliveries.arrivals.messages += [(b"t", payload) for _, payload in messages]
    deliveries.arrivals.packet_ids += [packet_id for packet_id, _ in messages]


def taken(deliveries: Deliveries) -> MessagesArrived:
    """The one event with messages that there must be, and nothing else."""
    (event,) = deliveries.take(1)
    assert isinstance(event, MessagesArrived)
    return event


def test_events_are_cut_and_taken_once() -> None:
    deliveries = arrived(*((n, b"x") for n in range(1, 2 * EVENT_MESSAGES + 2)))
    events = [event for event in deliveries.take(3) if isinstance(event, MessagesArrived)]
    assert [len(event.messages) for event in events] == [EVENT_MESSAGES, EVENT_MESSAGES, 1]
    assert [event.packet_ids for event in events][2] == (2 * EVENT_MESSAGES + 1,)
    assert {event.epoch for event in events} == {3}
    assert deliveries.take(3) == []


def test_large_payloads_cut_too() -> None:
    half = b"x" * (EVENT_BYTES // 2)
    events = [event for event in arrived((1, half), (2, half), (3, b"y")).take(1) if isinstance(event, MessagesArrived)]
    assert [(event.packet_ids, event.payload_bytes) for event in events] == [((1, 2), EVENT_BYTES), ((3,), 1)]


def test_an_id_0_is_delivered_and_not_acknowledged() -> None:
    deliveries = arrived((7, b"a"), (0, b"b"), (0, b"b"), (300, b"d"))
    event = taken(deliveries)
    assert len(event.messages) == 4
    assert event.packet_ids == (7, 300)
    assert deliveries.pubacks((300, 7, 8)) == b"\x40\x02\x01\x2c" + b"\x40\x02\x00\x07"
    assert deliveries.pubacks((7,)) == b""


def test_a_copy_of_what_is_not_acknowledged_is_dropped_and_counted() -> None:
    deliveries = arrived((7, b"a"), (8, b"b"), (7, b"a"))
    assert deliveries.take(1) == [
        CopiesDropped(1),
        MessagesArrived(1, ((b"t", b"a"), (b"t", b"b")), (7, 8), 2),
    ]
    arrive(deliveries, (8, b"b"), (7, b"a"))
    assert deliveries.take(1) == [CopiesDropped(2)]
    assert deliveries.pubacks((7,)) == b"\x40\x02\x00\x07"
    arrive(deliveries, (7, b"a"))
    assert taken(deliveries).packet_ids == (7,), "an acknowledged id may come again"


def test_the_topic_belongs_to_the_message() -> None:
    deliveries = arrived((7, b"a"))
    taken(deliveries)
    deliveries.arrivals.messages.append((b"u", b"a"))
    deliveries.arrivals.packet_ids.append(7)
    assert taken(deliveries).messages == ((b"u", b"a"),)


def test_an_id_that_is_used_twice_is_acknowledged_when_both_are_durable() -> None:
    deliveries = arrived((7, b"a"), (8, b"b"))
    taken(deliveries)
    arrive(deliveries, (7, b"c"), (9, b"d"))
    assert taken(deliveries).packet_ids == (7, 9)
    arrive(deliveries, (7, b"a"), (7, b"c"), (8, b"b"))
    assert deliveries.take(1) == [CopiesDropped(3)]
    assert deliveries.pubacks((7, 8)) == b"\x40\x02\x00\x08"
    arrive(deliveries, (7, b"c"))
    assert deliveries.take(1) == [CopiesDropped(1)]
    assert deliveries.oldest == 7
    assert deliveries.pubacks((7, 9)) == b"\x40\x02\x00\x07" + b"\x40\x02\x00\x09"
    assert deliveries.oldest == 0


def test_qos_2_is_acknowledged_by_pubrec() -> None:
    deliveries = arrived((7 + AT_QOS_2, b"a"), (8, b"b"), (7 + AT_QOS_2, b"a"))
    dropped, event = deliveries.take(1)
    assert dropped == CopiesDropped(1)
    assert isinstance(event, MessagesArrived)
    assert event.packet_ids == (7 + AT_QOS_2, 8)
    assert deliveries.oldest == 7
    assert deliveries.pubacks(event.packet_ids) == b"\x50\x02\x00\x07" + b"\x40\x02\x00\x08"


def test_one_id_at_qos_1_and_2_waits_for_both_too() -> None:
    deliveries = arrived((7, b"a"), (7 + AT_QOS_2, b"b"))
    event = taken(deliveries)
    assert deliveries.pubacks(event.packet_ids[:1]) == b""
    assert deliveries.pubacks(event.packet_ids[1:]) == b"\x50\x02\x00\x07"


def test_what_the_broker_says_it_dropped_is_no_message() -> None:
    deliveries = arrived((7, b"a"))
    deliveries.arrivals.messages += [(DROPS_TOPIC, b"620"), (b"t", b"b"), (DROPS_TOPIC, b"what?"), (DROPS_TOPIC, b"9")]
    deliveries.arrivals.packet_ids += [0, 0, 0, 8]
    assert deliveries.take(1) == [
        BrokerDropped(620),
        MessagesArrived(1, ((b"t", b"a"), (b"t", b"b"), (DROPS_TOPIC, b"9")), (7, 8), 3),
    ]


def test_the_oldest_that_was_not_acknowledged_is_missed_or_comes_again() -> None:
    before = arrived((5, b"a"), (6, b"b"), (7, b"c"))
    assert before.oldest == 0
    before.take(1)
    assert before.oldest == 5
    before.pubacks((5,))
    assert before.oldest == 6
    for owed, came, again in ((6, (4, 7), False), (6, (7, 6), True), (6, (6 + AT_QOS_2,), True), (0, (0, 6), False)):
        after = arrived(*((packet_id, b"x") for packet_id in came))
        after.owed = owed, NOTHING
        after.take(2)
        assert after.got_back == again
        arrive(after, (9, b"y"))
        after.take(2)
        assert after.got_back == again, "once is enough"


@pytest.mark.parametrize("order", ["little", "big"])
def test_packet_ids_go_out_in_the_order_of_the_network(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """Whatever the order of this machine."""
    deliveries = arrived((0x0102, b"a"))
    deliveries.take(1)
    monkeypatch.setattr("actors.mqtt.deliveries.sys", SimpleNamespace(byteorder=order))
    right = b"\x40\x02\x01\x02"
    assert deliveries.pubacks((0x0102,)) == (right if order == sys.byteorder else right[::-1])


def test_one_that_does_not_wait_is_left_out_beside_others_with_one_id_too() -> None:
    deliveries = arrived((7, b"a"), (7, b"b"), (8, b"c"))
    deliveries.take(1)
    assert deliveries.pubacks((9, 8)) == b"\x40\x02\x00\x08"


def test_what_was_acknowledged_last_in_vain_comes_again() -> None:
    """The packet id alone says nothing: a broker may give it to the next message."""
    before = arrived((5, b"a"), (6, b"b"))
    before.take(1)
    assert before.acknowledged == NOTHING
    before.pubacks((5, 6))
    before.pubacks(())
    assert before.oldest == 0
    for came, again in (((6, b"b"), True), ((6, b"c"), False), ((7, b"b"), False), ((0, b"b"), False)):
        after = arrived(came)
        after.owed = 0, before.acknowledged
        after.take(2)
        assert after.got_back == again
    fresh = arrived((0, b""))
    fresh.take(1)
    assert not fresh.got_back


@attrs.define(eq=False)
class Model:
    """A broker that gives packet ids as it likes, and a reader that settles in order."""

    deliveries: Deliveries = attrs.field(factory=lambda: Deliveries(Arrivals()))
    waiting: list[tuple[int, bytes]] = attrs.field(factory=list)  # (packet id, payload), not durable

    def arrive(self, messages: list[tuple[int, bytes]]) -> None:
        arrive(self.deliveries, *messages)
        events = self.deliveries.take(1)
        copies = sum(event.count for event in events if isinstance(event, CopiesDropped))
        fresh = [event for event in events if isinstance(event, MessagesArrived)]
        expected = []
        for packet_id, payload in messages:
            if packet_id == 0:
                expected.append(payload)
            elif (packet_id, payload) not in self.waiting:
                expected.append(payload)
                self.waiting.append((packet_id, payload))
        assert [payload for event in fresh for _, payload in event.messages] == expected
        assert copies == len(messages) - len(expected)
        assert sum(event.payload_bytes for event in fresh) == sum(map(len, expected))

    def settle(self, count: int) -> None:
        """Of each id all at once or less; it is acknowledged with the last message that has it."""
        settled, self.waiting = self.waiting[:count], self.waiting[count:]
        left = {packet_id for packet_id, _ in self.waiting}
        last = {packet_id: at for at, (packet_id, _) in enumerate(settled)}
        due = [
            packet_id for at, (packet_id, _) in enumerate(settled) if last[packet_id] == at and packet_id not in left
        ]
        packets = self.deliveries.pubacks([packet_id for packet_id, _ in settled])
        assert packets == b"".join(b"\x40\x02" + packet_id.to_bytes(2, "big") for packet_id in due)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.sampled_from([b"a", b"b", b"c"])), max_size=6) | st.integers(0, 9)
    )
)
def test_nothing_is_acknowledged_before_all_of_its_id_is_durable(steps: list[list[tuple[int, bytes]] | int]) -> None:
    model = Model()
    for step in steps:
        if isinstance(step, int):
            model.settle(step)
        else:
            model.arrive(step)
