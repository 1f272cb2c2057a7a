"""dashboards/outbox.py: what was dropped comes back as a snapshot."""

from __future__ import annotations

import math

from actors.dashboards.outbox import RESYNC_INTERVAL_S, Outbox
from tests.dashboards.woken import EVERYTHING, LIMIT, live, make, raw


def overflow(outbox: Outbox, race: str) -> None:
    outbox.update(race, raw(b"x" * (LIMIT + 1)))


def test_a_resync_replaces_what_was_dropped() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.next_due_s() == -math.inf
    assert outbox.behind_due(100.0) == ["R"]
    outbox.update("R", raw(b"between asking and getting: in the snapshot"))
    outbox.snapshot("R", raw(b"resync"), resync_s=0.0)
    outbox.update("R", raw(b"1"))
    assert outbox.take(EVERYTHING) == [b"resync", b"1"]
    assert outbox.behind_due(200.0) == []


def test_no_resync_while_much_is_pending() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.reply(raw(b"x" * (LIMIT // 4)))
    overflow(outbox, "R")
    assert outbox.behind_due(0.0) == []
    outbox.take(EVERYTHING)
    assert outbox.behind_due(0.0) == ["R"]


def test_no_resync_while_a_request_waits_for_its_snapshot() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    outbox.expect("S")
    assert outbox.behind_due(0.0) == []
    outbox.refuse("S", raw(b"error"))
    assert outbox.behind_due(0.0) == ["R"]


def test_the_snapshot_of_a_request_is_as_good_as_a_resync() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(0.0) == ["R"]
    outbox.expect("R")
    outbox.snapshot("R", raw(b"asked for"))
    outbox.snapshot("R", raw(b"resync, not needed any more"), resync_s=0.0)
    outbox.update("R", raw(b"1"))
    assert outbox.take(EVERYTHING) == [b"asked for", b"1"]


def test_a_resync_snapshot_does_not_answer_a_request() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    outbox.behind_due(0.0)
    outbox.expect("R")
    outbox.snapshot("R", raw(b"resync"), resync_s=0.0)
    assert outbox.expecting("R")
    outbox.snapshot("R", raw(b"asked for"))
    assert outbox.take(EVERYTHING) == [b"resync", b"asked for"]


def test_a_race_is_resynced_at_most_once_in_the_interval() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(10.0) == ["R"]
    outbox.snapshot("R", raw(b"resync"), resync_s=0.0)
    outbox.take(EVERYTHING)
    overflow(outbox, "R")
    assert outbox.next_due_s() == 10.0 + RESYNC_INTERVAL_S
    assert outbox.behind_due(14.9) == []
    assert outbox.behind_due(15.0) == ["R"]


def test_another_race_need_not_wait_for_that_interval() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    overflow(outbox, "R")
    outbox.behind_due(10.0)
    outbox.snapshot("R", raw(b"resync"), resync_s=0.0)
    outbox.take(EVERYTHING)
    overflow(outbox, "R")
    overflow(outbox, "S")
    assert outbox.behind_due(10.1) == ["S"]


def test_a_resync_that_is_not_answered_is_asked_for_again() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(0.0) == ["R"]
    outbox.refuse("R", raw(b"kept to ourselves"))
    assert outbox.take(EVERYTHING) == []
    assert outbox.behind_due(4.9) == []
    assert outbox.behind_due(5.0) == ["R"]


def test_the_next_resync_of_a_race_counts_from_the_answer() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(0.0) == ["R"]
    outbox.snapshot("R", raw(b"late"), resync_s=0.7)
    outbox.take(EVERYTHING)
    overflow(outbox, "R")
    assert outbox.behind_due(5.6) == []
    assert outbox.behind_due(5.7) == ["R"]


def test_a_race_forgotten_while_behind_is_not_resynced() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    outbox.forget("R")
    outbox.snapshot("R", raw(b"resync"), resync_s=0.0)
    assert outbox.next_due_s() == math.inf
    assert outbox.take(EVERYTHING) == []


def test_a_race_that_lost_changes_is_resynced() -> None:
    outbox, woken = make()
    live(outbox, "R")
    outbox.update("R", raw(b"1"))
    before = woken.times
    outbox.lose("R")
    outbox.lose("R")
    outbox.lose("unknown")
    assert woken.times == before + 1
    outbox.update("R", raw(b"after a gap"))
    assert outbox.take(EVERYTHING) == [b"1"]
    assert outbox.behind_due(0.0) == ["R"]
    outbox.lose("R")
    outbox.snapshot("R", raw(b"resync"), resync_s=0.0)
    outbox.update("R", raw(b"2"))
    assert outbox.take(EVERYTHING) == [b"resync", b"2"]


def test_changes_lost_before_the_snapshot_are_in_it() -> None:
    outbox, _ = make()
    outbox.expect("R")
    outbox.lose("R")
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.update("R", raw(b"1"))
    assert outbox.take(EVERYTHING) == [b"snapshot", b"1"]
