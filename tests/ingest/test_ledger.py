"""The ledger: acknowledgements in order, per epoch, only for what is settled; a stateful model checks it at length."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.ingest.ledger import Ledger


def test_acks_wait_for_the_entry_before() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    first = ledger.open(1, (1, 2), {0: 3}, 100, 0.0)
    second = ledger.open(1, (3,), {0: 1, 1: 2}, 50, 1.0)
    assert (ledger.fixes_in_flight, ledger.bytes_in_flight, ledger.messages_unacked) == (6, 150, 3)
    ledger.settle([(second, 0), (second, 1)])
    assert ledger.take_acks() == ()
    assert ledger.oldest_waited_s(5.0) == 5.0
    ledger.settle([(first, 0)])
    assert ledger.take_acks() == (1, 2, 3)
    assert ledger.take_acks() == ()
    assert ledger.idle
    assert ledger.oldest_waited_s(5.0) == 0.0
    assert (ledger.fixes_in_flight, ledger.bytes_in_flight, ledger.messages_unacked) == (0, 0, 0)


def test_old_epoch_is_settled_but_never_acknowledged() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    old = ledger.open(1, (7,), {0: 1}, 10, 0.0)
    ledger.begin_epoch(2)
    late = ledger.open(1, (8,), {0: 1}, 10, 0.0)
    new = ledger.open(2, (7,), {0: 1}, 10, 0.0)
    ledger.settle([(new, 0)])
    assert ledger.take_acks() == (7,)
    assert not ledger.idle
    ledger.settle([(old, 0), (late, 0)])
    assert ledger.take_acks() == ()
    assert ledger.idle


def test_settling_twice_is_nothing() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    number = ledger.open(1, (1,), {0: 2, 1: 1}, 10, 0.0)
    ledger.settle([(number, 0), (number, 0), (99, 0)])
    assert ledger.fixes_in_flight == 1
    ledger.settle([(number, 1), (number, 1)])
    assert ledger.fixes_in_flight == 0
    assert ledger.take_acks() == (1,)


def test_entry_without_fixes_is_acknowledged_at_once_in_its_turn() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    first = ledger.open(1, (1,), {0: 1}, 10, 0.0)
    assert ledger.next_number() == ledger.open(1, (2,), {}, 2, 0.0)
    assert ledger.take_acks() == ()
    ledger.settle([(first, 0)])
    assert ledger.take_acks() == (1, 2)


A, B, C = (b"t", b"a"), (b"t", b"b"), (b"t", b"c")


def test_what_comes_again_on_the_next_connection_waits_for_what_is_in_flight() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    assert ledger.without_copies((A, B)) == ((A, B), frozenset())
    first = ledger.open(1, (1, 2), {0: 2}, 2, 0.0, (A, B))
    assert ledger.without_copies((A,)) == ((A,), frozenset()), "on one connection the driver drops copies"
    for epoch in (2, 3, 4):
        ledger.begin_epoch(epoch)
        assert ledger.without_copies((B, C, A)) == ((C,), frozenset({first}))
        ledger.open(epoch, (7, 8, 9), {}, 0, 1.0, (), frozenset({first}))
        assert (ledger.fixes_in_flight, ledger.bytes_in_flight, ledger.messages_unacked) == (2, 2, 3)
    assert ledger.take_acks() == ()
    ledger.settle([(first, 0)])
    assert ledger.take_acks() == (7, 8, 9)
    assert ledger.without_copies((A,)) == ((A,), frozenset()), "durable: a duplicate like any other"


def test_what_may_have_got_lost_is_taken_anew() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    ledger.open(1, (1,), {0: 1}, 1, 0.0, (A,))
    ledger.begin_epoch(2)
    ledger.doubt()
    assert ledger.without_copies((A,)) == ((A,), frozenset())
    ledger.begin_epoch(3)
    assert ledger.without_copies((A,)) == ((A,), frozenset())
    second = ledger.open(3, (1,), {0: 1}, 1, 0.0, (A,))
    ledger.begin_epoch(4)
    assert ledger.without_copies((A,)) == ((), frozenset({second}))


class LedgerModel(RuleBasedStateMachine):
    """Rules 2 to 6 of the design, against a plain list of messages.

    What may be acknowledged is the settled front of the present connection, in the order of receipt, each message
    once. Packet ids restart with a connection; what came over an older one is settled and never acknowledged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.epoch = 0
        self.now = 0.0
        self.next_packet = 1
        self.parcels: list[tuple[int, int]] = []  # ever taken
        self.open: dict[int, dict[int, int]] = {}  # entry -> open parts -> fixes
        self.payload: dict[int, int] = {}  # entry -> bytes
        self.order: list[tuple[int, tuple[int, ...], float]] = []  # entries of this connection, unacknowledged
        self.waits_for: dict[int, frozenset[int]] = {}  # entry -> older ones that hold what came again with it
        self.holds: dict[int, set[int]] = {}  # entry that came over an older connection -> messages, not doubted
        self.now_holds: dict[int, set[int]] = {}  # the same, of the entries of this connection
        self.acknowledged: set[int] = set()  # packet ids, on this connection

    @initialize()
    def connect(self) -> None:
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        self.epoch += 1
        self.ledger.begin_epoch(self.epoch)
        self.order, self.acknowledged = [], set()
        self.next_packet = 1
        self.holds |= self.now_holds
        self.now_holds = {}

    @rule()
    def doubt(self) -> None:
        self.ledger.doubt()
        self.holds, self.now_holds = {}, {}

    @rule(
        parts=st.lists(st.integers(1, 4), max_size=3),
        packets=st.integers(0, 3),
        payload=st.integers(0, 100),
        messages=st.lists(st.integers(0, 9), max_size=4),
        late=st.booleans(),
    )
    def arrive(self, parts: list[int], packets: int, payload: int, messages: list[int], late: bool) -> None:
        """`late`: it was read from the connection before this one."""
        ids = tuple(range(self.next_packet, self.next_packet + packets))
        expected = self.ledger.next_number()
        self.now += 1
        epoch = self.epoch - 1 if late else self.epoch
        fresh, waits_for = self.ledger.without_copies(tuple((b"t", b"%d" % each) for each in messages))
        left_out = [each for each in messages if (b"t", b"%d" % each) not in fresh]
        for each in set(messages):
            holders = [older for older, held in self.holds.items() if each in held]
            if each in left_out:
                assert any(older in waits_for and self.open[older] for older in holders)
            elif len(holders) == 1:
                assert not self.open[holders[0]]
        if not fresh:
            parts = []
        number = self.ledger.open(epoch, ids, dict(enumerate(parts)), payload, self.now, fresh, waits_for)
        self.waits_for[number] = waits_for
        self.now_holds[number] = set(messages) - set(left_out)
        assert number == expected
        assert number not in self.open
        self.open[number], self.payload[number] = dict(enumerate(parts)), payload
        self.parcels += [(number, part) for part in range(len(parts))]
        if not late:
            self.next_packet += packets
            self.order.append((number, ids, self.now))

    @precondition(lambda self: self.parcels)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Also what was settled before, several times, or never taken."""
        chosen = data.draw(st.lists(st.sampled_from([*self.parcels, (10**9, 0)]), min_size=1, max_size=6))
        self.ledger.settle(chosen)
        for number, part in chosen:
            self.open.get(number, {}).pop(part, None)

    @precondition(lambda self: self.parcels)
    @rule(data=st.data())
    def settle_but(self, data: st.DataObject) -> None:
        """But for fewer and fewer of its fixes, and never for none; also of what was settled before, or never taken."""
        number, part = data.draw(st.sampled_from([*self.parcels, (10**9, 0)]))
        parts = self.open.get(number, {})
        fixes = data.draw(st.integers(1, parts.get(part, 1)))
        self.ledger.settle_but((number, part), fixes)
        if part in parts:
            parts[part] = fixes

    @rule()
    def acknowledge(self) -> None:
        due: list[int] = []
        while self.order and not any(self.open[n] for n in (self.order[0][0], *self.waits_for[self.order[0][0]])):
            due += self.order.pop(0)[1]
        given = list(self.ledger.take_acks())
        assert given == due
        assert self.acknowledged.isdisjoint(given)
        self.acknowledged |= set(given)

    @invariant()
    def counts_agree(self) -> None:
        assert self.ledger.epoch == self.epoch
        assert self.ledger.fixes_in_flight == sum(sum(parts.values()) for parts in self.open.values())
        assert self.ledger.messages_unacked == sum(len(ids) for _, ids, _ in self.order)
        assert self.ledger.bytes_in_flight == sum(self.payload[number] for number, parts in self.open.items() if parts)
        assert self.ledger.idle == (not self.order and not any(self.open.values()))
        assert self.ledger.oldest_waited_s(self.now) == (self.now - self.order[0][2] if self.order else 0)


TestLedgerModel = LedgerModel.TestCase
