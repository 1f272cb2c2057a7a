"""The reader: routes, acknowledges in order after settling, holds the socket when too much is in flight."""

from __future__ import annotations

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

import actors.ingest.reader
from actors.core.fix import Fix
from actors.core.rejection import Rejection
from actors.ingest.decode import decode
from actors.ingest.validate import Rules
from tests.ingest.reader_world import payload, running, world


async def test_acknowledged_in_order_and_only_when_settled(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish(payload(at_s=50))
        w.broker.publish(payload(at_s=51, race="R2"))
        await wait_all_tasks_blocked()
        first, second = w.routed.parcels
        assert (first.race_id, second.race_id) == ("R1", "R2")
        assert w.count("messages_unacked") == 2
        assert w.count("fixes_in_flight") == 2
        await w.settle(second)
        assert w.broker.acknowledged == []
        await w.settle(first)
        assert w.broker.acknowledged == [1, 2]
        assert w.count("messages_unacked") == 0
        assert w.count("acks_total") == 2


async def test_one_message_of_many_races_is_one_acknowledgement(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish([payload(at_s=i, race=f"R{i % 2}") for i in range(30)] + [{"race_id": 7}])
        await wait_all_tasks_blocked()
        assert [(p.race_id, len(p.fixes)) for p in w.routed.parcels] == [("R0", 10), ("R0", 5), ("R1", 10), ("R1", 5)]
        (refusal,) = w.refused.receive_nowait()
        assert [r.code for r in refusal.rejections] == ["missing_field"]
        assert w.count("fixes_received_total") == 31
        assert w.count("fixes_late_total") == 30
        await w.settle(*w.routed.parcels)
        assert w.broker.acknowledged == []
        await w.settle(refusal)
        assert w.broker.acknowledged == [1]


async def test_an_empty_array_is_acknowledged_no_more(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish([])
        await wait_all_tasks_blocked()
        assert w.broker.acknowledged == [1]
        assert w.routed.parcels == []


async def test_holds_the_socket_when_too_much_is_in_flight(autojump_clock: MockClock) -> None:
    w = world(max_in_flight=10)
    async with running(w):
        for i in range(10):
            w.broker.publish(payload(at_s=i))
        await wait_all_tasks_blocked()
        assert w.link.holds == [True]
        for i in range(10, 15):
            w.broker.publish(payload(at_s=i))
        await wait_all_tasks_blocked()
        assert len(w.routed.parcels) == 10
        await w.settle(*w.routed.parcels[:2])
        assert w.link.holds == [True]
        await w.settle(w.routed.parcels[2])
        assert w.link.holds == [True, False, True]
        await w.settle(*w.routed.parcels)
        assert w.link.holds == [True, False, True, False]
        assert w.broker.acknowledged == list(range(1, 16))


@pytest.mark.parametrize(("receive_maximum", "most"), [(9, 50_000), (65_535, 9)], ids=["receive_maximum", "hard cap"])
async def test_holds_the_socket_when_the_broker_sends_more_than_receive_maximum(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, receive_maximum: int, most: int
) -> None:
    monkeypatch.setattr(actors.ingest.reader, "MAX_UNACKED", most)
    w = world(receive_maximum=receive_maximum)
    async with running(w):
        for i in range(9):
            w.broker.publish(payload(at_s=i))
        await wait_all_tasks_blocked()
        first, *others = w.routed.parcels
        await w.settle(*others)
        assert w.link.holds == []
        w.broker.publish(payload(at_s=9))
        await wait_all_tasks_blocked()
        assert w.link.holds == [True], "settled, but the first one keeps their acknowledgements back"
        assert w.count("in_flight_ratio") == 1
        await w.settle(first)
        assert w.link.holds == [True, False]
        assert w.count("in_flight_ratio") == 0.1, "the last one, of at most 9"
        assert w.broker.acknowledged == list(range(1, 10))


async def test_holds_the_socket_when_too_many_bytes_are_in_flight(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.ingest.reader, "BYTES_IN_FLIGHT", 1000)
    w = world()
    async with running(w):
        w.broker.publish(payload(at_s=0) | {"ignored": "x" * 1000})
        await wait_all_tasks_blocked()
        assert w.link.holds == [True]
        await w.settle(*w.routed.parcels)
        assert w.link.holds == [True, False]


async def test_a_payload_that_crashes_the_reader_twice_is_poison(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touchy(topic: bytes, raw: bytes, now_ms: int, rules: Rules) -> tuple[list[Fix], list[Rejection]]:
        if b"unlucky" in raw:
            raise RecursionError("unlucky")
        return decode(topic, raw, now_ms, rules)

    monkeypatch.setattr(actors.ingest.reader, "decode", touchy)
    w = world()
    w.broker.publish(payload())
    w.broker.publish(payload("unlucky"))
    for _ in range(2):
        with pytest.RaisesGroup(RecursionError, flatten_subgroups=True, allow_unwrapped=True):
            await w.reader.run()
        assert w.reader.state.excused()
        w.reader.state.after_crash()
    async with running(w):
        (parcel,) = w.routed.parcels
        assert [fix.participant_id for fix in parcel.fixes] == ["P001"]
        (refusal,) = w.refused.receive_nowait()
        assert [r.code for r in refusal.rejections] == ["poison"]
        await w.settle(parcel, refusal)
        assert w.broker.acknowledged == [1, 2]
