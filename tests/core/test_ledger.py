"""The ledger: acknowledgements in order, per epoch, only for what is settled; a stateful model checks it at length."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.core.ledger import Ledger


def test_acks_wait_for_the_entry_before() -> None:
    ledger = Ledger()
    ledger.begin_epoch(1)
    first = ledger.open(1, (1, 2), {0: 3}, 100, 0.0)
    second = ledger.open(1, (3,), {0: 1, 1: 2}, 50, 1.0)
    assert (ledger.fixes_in_flight, ledger.bytes_in_flight, ledger.messages_unacked) == (6, 150, 3)
    ledger.settle([(second, 0), (second, 1)])
    assert ledger.take_acks() == ()
    assert ledger.oldest_opened_at() == 0.0
    ledger.settle([(first, 0)])
    assert ledger.take_acks() == (1, 2, 3)
    assert ledger.take_acks() == ()
    assert ledger.idle
    assert ledger.oldest_opened_at() is None
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


class LedgerModel(RuleBasedStateMachine):
    """Against a plain list of messages: what may be acknowledged is the settled front of the present epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.epoch = 0
        self.next_packet = 1
        self.open: dict[int, dict[int, int]] = {}  # entry -> open parts
        self.order: list[tuple[int, tuple[int, ...]]] = []  # of this epoch, unacknowledged
        self.acked: list[int] = []
        self.expected: list[int] = []

    @initialize()
    def connect(self) -> None:
        self.reconnect()

    @rule()
    def reconnect(self) -> None:
        self.epoch += 1
        self.ledger.begin_epoch(self.epoch)
        self.order = []
        self.next_packet = 1

    @rule(parts=st.lists(st.integers(1, 4), max_size=3), packets=st.integers(0, 3), stale=st.booleans())
    def arrive(self, parts: list[int], packets: int, stale: bool) -> None:
        ids = tuple(range(self.next_packet, self.next_packet + packets))
        self.next_packet += packets
        epoch = self.epoch - 1 if stale else self.epoch
        number = self.ledger.open(epoch, ids, dict(enumerate(parts)), 1, 0.0)
        self.open[number] = dict(enumerate(parts))
        if not stale:
            self.order.append((number, ids))

    @precondition(lambda self: any(self.open.values()))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        candidates = [(number, part) for number, parts in self.open.items() for part in parts]
        chosen = data.draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=4))
        self.ledger.settle(chosen)
        for number, part in chosen:
            self.open[number].pop(part, None)

    @rule()
    def acknowledge(self) -> None:
        due: list[int] = []
        while self.order and not self.open[self.order[0][0]]:
            due += self.order.pop(0)[1]
        assert list(self.ledger.take_acks()) == due

    @invariant()
    def counts_agree(self) -> None:
        assert self.ledger.fixes_in_flight == sum(sum(parts.values()) for parts in self.open.values())
        assert self.ledger.messages_unacked == sum(len(ids) for _, ids in self.order)
        assert self.ledger.bytes_in_flight == sum(1 for parts in self.open.values() if parts)


TestLedgerModel = LedgerModel.TestCase
