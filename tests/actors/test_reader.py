"""The reader: routes, acknowledges in order after settling, holds the socket when too much is in flight, drains."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import actors.reader
from actors.core.decode import Rules, decode
from actors.core.fix import Fix, Rejection
from actors.core.timestamps import format_ms
from actors.health import Health
from actors.messages import (
    Disconnected,
    MessagesArrived,
    Parcel,
    PersistenceMessage,
    ReaderMessage,
    Settled,
    StopTaking,
    SubscriptionRefused,
    TakenOver,
)
from actors.metrics import Metrics
from actors.reader import Reader
from actors.reader_desk import ReaderDesk
from tests.actors.fakes import FakeBroker, FakeLink
from tests.making import BASE_MS


def payload(participant: str = "P001", at_s: float = 0, race: str = "R1") -> dict[str, object]:
    return {
        "participant_id": participant,
        "race_id": race,
        "latitude": 1.5,
        "longitude": 2.5,
        "timestamp": format_ms(BASE_MS + round(at_s * 1000)),
    }


@attrs.define(eq=False)
class Routed:
    """Stands for the directory."""

    parcels: list[Parcel] = attrs.field(factory=list)

    def route(self, parcel: Parcel) -> None:
        self.parcels.append(parcel)


@attrs.define(eq=False)
class World:
    """The reader between a fake broker and nothing: the test settles by hand."""

    reader: Reader
    broker: FakeBroker
    routed: Routed
    refused: trio.MemoryReceiveChannel[PersistenceMessage]
    inbox: trio.MemorySendChannel[ReaderMessage]
    metrics: Metrics
    health: Health
    link: FakeLink
    gave_up: list[str]

    async def settle(self, *parcels: Parcel) -> None:
        self.inbox.send_nowait(Settled(tuple(parcel.id for parcel in parcels)))
        await wait_all_tasks_blocked()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"tracking_{name}", labels) or 0.0


def world(max_in_flight: int = 100, receive_maximum: int = 100) -> World:
    metrics = Metrics()
    health = Health(metrics)
    broker, routed = FakeBroker(), Routed()
    link = broker.make_link()
    to_persistence, refused = trio.open_memory_channel[PersistenceMessage](math.inf)
    send, inbox = trio.open_memory_channel[ReaderMessage](math.inf)
    gave_up: list[str] = []

    reader = Reader(
        ReaderDesk(),
        link,
        inbox,
        send.send_nowait,
        routed,
        to_persistence,
        Rules(262_144, topic_identity="none", topics=("tracking/+/position",)),
        metrics,
        health,
        lambda: BASE_MS + 60_000,
        max_fixes_in_flight=max_in_flight,
        receive_maximum=receive_maximum,
        parcel_rows=10,
        late_after_ms=30_000,
        give_up=lambda: gave_up.append("asked"),
    )
    return World(reader, broker, routed, refused, send, metrics, health, link, gave_up)


@asynccontextmanager
async def running(w: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(w.reader.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


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
        refusal = w.refused.receive_nowait()
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
    monkeypatch.setattr(actors.reader, "MAX_UNACKED", most)
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
    monkeypatch.setattr(actors.reader, "BYTES_IN_FLIGHT", 1000)
    w = world()
    async with running(w):
        w.broker.publish(payload(at_s=0) | {"ignored": "x" * 1000})
        await wait_all_tasks_blocked()
        assert w.link.holds == [True]
        await w.settle(*w.routed.parcels)
        assert w.link.holds == [True, False]


async def test_what_comes_late_from_an_old_connection_is_stored_and_not_acknowledged(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.link.drop()
        w.link.connect()
        w.broker.publish(payload(at_s=0))
        raw = json.dumps(payload(at_s=1)).encode()
        w.inbox.send_nowait(MessagesArrived(1, ((b"tracking/x/position", raw),), (1,), len(raw)))
        await wait_all_tasks_blocked()
        new, old = w.routed.parcels
        await w.settle(old)
        assert w.broker.acknowledged == []
        await w.settle(new)
        assert w.broker.acknowledged == [1]


async def test_a_new_connection_starts_over_and_old_settlements_acknowledge_nothing(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish(payload())
        await wait_all_tasks_blocked()
        link = w.link
        link.drop()
        link.post(Disconnected(1, "connection reset"))
        await wait_all_tasks_blocked()
        assert w.health.components["broker"].detail == "connection reset"
        link.connect()
        await wait_all_tasks_blocked()
        old, new = w.routed.parcels
        assert old.fixes == new.fixes
        await w.settle(old)
        assert w.broker.acknowledged == []
        await w.settle(new)
        assert w.broker.acknowledged == [1]
        assert w.health.components["broker"].up
        assert w.count("mqtt_session_lost_total") == 0


async def test_a_lost_session_is_counted(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.link.drop()
        w.broker.session_present = False
        w.link.connect()
        await wait_all_tasks_blocked()
        assert w.count("mqtt_session_lost_total") == 1


async def test_a_refused_subscription_shows_as_broker_down(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(SubscriptionRefused("tracking/#", "not authorized"))
        await wait_all_tasks_blocked()
        assert w.health.components["broker"].detail == "subscription tracking/# refused: not authorized"


async def test_thrown_out_for_good_the_daemon_is_asked_to_stop(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    w = world()
    async with running(w):
        w.inbox.send_nowait(TakenOver("me", times=3, within_s=5))
        await wait_all_tasks_blocked()
        assert w.health.components["broker"].detail == "another client seems to use our client_id 'me'"
        assert w.gave_up == ["asked"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "level='error'" in line]
    assert "our client_id 'me': thrown out 3 times in a row within 5 s of CONNACK, stopping" in line


async def test_a_stuck_message_is_sent_again_while_postgresql_is_well(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.broker.publish(payload())
        await trio.sleep(100)
        assert w.link.epoch == 1, "PostgreSQL is away: it has to wait"
        w.health.up("postgres")
        await trio.sleep(5)
        assert w.link.epoch == 2
        assert len(w.routed.parcels) == 2
        await w.settle(w.routed.parcels[1])
        assert w.broker.acknowledged == [1]
        await trio.sleep(100)
        assert w.link.epoch == 2


async def test_time_that_the_daemon_itself_was_stopped_makes_nothing_stuck(autojump_clock: MockClock) -> None:
    w = world()
    async with running(w):
        w.health.up("postgres")
        w.broker.publish(payload())
        await trio.sleep(1)
        autojump_clock.jump(60)
        await trio.sleep(2)
        assert w.link.epoch == 1
        await w.settle(*w.routed.parcels)
        await trio.sleep(100)
        assert w.link.epoch == 1


async def test_stop_takes_no_more_and_ends_when_all_is_acknowledged(autojump_clock: MockClock) -> None:
    w = world()
    async with trio.open_nursery() as nursery:
        await nursery.start(w.reader.run)
        w.broker.publish(payload())
        await wait_all_tasks_blocked()
        w.inbox.send_nowait(StopTaking())
        await wait_all_tasks_blocked()
        w.broker.publish(payload(at_s=1))
        await trio.sleep(5)
        assert len(w.routed.parcels) == 1
        assert not w.link.disconnected
        await w.settle(*w.routed.parcels)
    assert w.link.disconnected
    assert w.broker.acknowledged == [1]


async def test_stop_with_nothing_in_flight_ends_at_once(autojump_clock: MockClock) -> None:
    w = world()
    async with trio.open_nursery() as nursery:
        await nursery.start(w.reader.run)
        w.inbox.send_nowait(StopTaking())
    assert w.link.disconnected


async def test_a_payload_that_crashes_the_reader_twice_is_poison(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touchy(topic: bytes, raw: bytes, now_ms: int, rules: Rules) -> tuple[list[Fix], list[Rejection]]:
        if b"unlucky" in raw:
            raise RecursionError("unlucky")
        return decode(topic, raw, now_ms, rules)

    monkeypatch.setattr(actors.reader, "decode", touchy)
    w = world()
    w.broker.publish(payload())
    w.broker.publish(payload("unlucky"))
    for _ in range(2):
        with pytest.RaisesGroup(RecursionError, flatten_subgroups=True, allow_unwrapped=True):
            await w.reader.run()
        assert w.reader.desk.excused()
        w.reader.desk.after_crash()
    async with running(w):
        (parcel,) = w.routed.parcels
        assert [fix.participant_id for fix in parcel.fixes] == ["P001"]
        refusal = w.refused.receive_nowait()
        assert [r.code for r in refusal.rejections] == ["poison"]
        await w.settle(parcel, refusal)
        assert w.broker.acknowledged == [1, 2]
