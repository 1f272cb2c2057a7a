"""What we publish: a window, and a broker that ends the connection at what it does not allow."""

from __future__ import annotations

from collections import deque
from itertools import count

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mqtt import outgoing
from actors.mqtt.outgoing import CLOSES, HUSH_S, IN_A_ROW, WINDOW, Dropped, Message, Outgoing


@attrs.define(eq=False)
class Broker:
    """Ends the connection at some topics. What it acknowledged of what came before in the same connection: `late` of
    the newest are not answered yet."""

    forbidden: frozenset[str]
    late: int = 0
    taken: list[tuple[str, bytes]] = attrs.field(factory=list)
    ends: int = 0
    dropped: int = 0
    now: float = 0.0
    ids: count[int] = attrs.field(factory=lambda: count(1))

    def connection(self, out: Outgoing) -> bool:
        """One, until it ends (True) or nothing is left."""
        unanswered: deque[tuple[int, Message]] = deque()
        while True:
            while message := out.next(self.now):
                unanswered.append((packet_id := next(self.ids), message))
                out.sent(packet_id, message)
            self.note(out)
            if not unanswered:
                return False
            bad = next((i for i, (_, one) in enumerate(unanswered) if one.topic in self.forbidden), len(unanswered))
            answered = bad if bad == len(unanswered) else max(0, bad - self.late)
            for _ in range(answered):
                packet_id, message = unanswered.popleft()
                self.taken.append((message.topic, message.payload))
                out.acknowledged(packet_id)
            if unanswered:
                self.ends += 1
                out.ended(blamed=True, now=self.now)
                self.note(out)
                return True

    def take_all(self, out: Outgoing) -> None:
        """Connection after connection."""
        while self.connection(out):
            assert self.ends < 100

    def note(self, out: Outgoing) -> None:
        dropped = out.take_dropped()
        self.dropped += dropped.count if dropped else 0


def numbered(topics: list[str]) -> deque[tuple[str, bytes]]:
    return deque((topic, b"%d" % number) for number, topic in enumerate(topics))


@given(
    st.lists(st.sampled_from(["a", "b", "c", "P.1", "P.2"]), max_size=80),
    st.integers(0, WINDOW),
)
def test_the_guilty_are_found_and_the_others_arrive_in_order(topics: list[str], late: int) -> None:
    out, broker = Outgoing(numbered(topics)), Broker(frozenset({"P.1", "P.2"}), late)
    allowed = [message for message in out.waiting if message[0] not in broker.forbidden]
    broker.take_all(out)
    assert broker.taken == allowed
    assert broker.dropped == len(topics) - len(allowed)
    assert broker.ends <= 2 * CLOSES, "each topic is learnt once"


@given(st.integers(1, 300), st.integers(0, WINDOW))
def test_a_broker_that_takes_nothing_costs_few_connections(topics: int, late: int) -> None:
    """Each receipt has a topic of its own: learning them all one by one would leave no time for fixes."""
    names = [f"r/{number}" for number in range(topics)]
    out, broker = Outgoing(numbered(names)), Broker(frozenset(names), late)
    broker.take_all(out)
    assert broker.dropped == topics
    assert broker.ends <= IN_A_ROW * CLOSES
    broker.now += HUSH_S
    out.waiting.extend(numbered(names))
    before = broker.ends
    broker.take_all(out)
    assert broker.ends - before <= CLOSES, "tried again with one of them"
    assert broker.dropped == 2 * topics


def test_many_that_are_not_allowed_do_not_condemn_those_that_are() -> None:
    bad = [f"P.{number}" for number in range(2 * IN_A_ROW)]
    out = Outgoing(numbered([topic for name in bad for topic in (name, "a")]))
    broker = Broker(frozenset(bad))
    broker.take_all(out)
    assert [topic for topic, _ in broker.taken] == ["a"] * len(bad)
    assert broker.dropped == len(bad)


def test_a_topic_that_was_allowed_meanwhile_is_used_again() -> None:
    out, broker = Outgoing(numbered(["P.1"])), Broker(frozenset({"P.1"}))
    broker.take_all(out)
    broker.forbidden = frozenset()
    for now, dropped in ((HUSH_S - 1, 2), (HUSH_S, 2)):
        broker.now = now
        out.waiting.append(("P.1", b"x"))
        assert not broker.connection(out)
        assert broker.dropped == dropped
    assert broker.taken == [("P.1", b"x")]


@given(st.integers(0, 60), st.integers(1, 30))
def test_the_window(messages: int, window: int) -> None:
    out = Outgoing(numbered(["t"] * messages), window)
    sent = []
    while message := out.next(0):
        sent.append(message)
        out.sent(len(sent), message)
    assert len(sent) == min(messages, window)
    assert out.oldest_topic == ("t" if messages else "")
    if sent:
        out.acknowledged(1)
        assert bool(out.next(0)) == (messages > window)


@given(st.lists(st.integers(1, 25), max_size=10))
def test_ends_that_are_nobodys_fault_change_neither_order_nor_speed(windows: list[int]) -> None:
    """Brokers that allow a different number at once, and go away."""
    out = Outgoing(numbered(["t"] * 30))
    for window in [*windows, 50]:
        out.window = window
        sent = []
        while message := out.next(0):
            sent.append(message)
            out.sent(len(sent), message)
        assert [one.payload for one in sent] == [b"%d" % number for number in range(min(window, 30))]
        out.ended(blamed=False, now=0)
    assert out.take_dropped() is None


def test_what_is_suspected_waits_for_suback() -> None:
    """The broker ends the connection at SUBSCRIBE: that must not count against what was sent right behind it."""
    out = Outgoing(numbered(["r"] * 3))
    for packet_id in (1, 2):
        message = out.next(0, subscribed=False)
        assert message is not None
        out.sent(packet_id, message)
    out.ended(blamed=True, now=0)
    assert out.next(0, subscribed=False) is None
    message = out.next(0)
    assert message is not None
    assert message.payload == b"0"


def test_a_refusal_by_puback_is_counted_and_no_more() -> None:
    out = Outgoing(numbered(["r", "r"]))
    for packet_id in (1, 2):
        message = out.next(0)
        assert message is not None
        out.sent(packet_id, message)
        out.acknowledged(packet_id, "Not authorized")
    assert out.take_dropped() == Dropped(2, "r", "the broker refused it: Not authorized")
    assert out.take_dropped() is None


def test_an_acknowledgement_for_nothing() -> None:
    with pytest.raises(KeyError):
        Outgoing(deque()).acknowledged(1)


def test_so_many_topics_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_TOPICS", 2)
    monkeypatch.setattr(outgoing, "IN_A_ROW", 1000)
    names = ["1", "2", "3"]
    out, broker = Outgoing(numbered(names)), Broker(frozenset(names))
    broker.take_all(out)
    broker.forbidden = frozenset()
    out.waiting.extend(numbered(names))
    assert not broker.connection(out)
    assert [topic for topic, _ in broker.taken] == ["1"]
