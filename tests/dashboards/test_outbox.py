"""dashboards/outbox.py: order, and what does not fit."""

from __future__ import annotations

import math

from actors.dashboards.outbox import RESYNC_INTERVAL_S
from tests.dashboards.woken import EVERYTHING, LIMIT, live, make


def test_updates_before_the_snapshot_are_ignored_and_after_it_in_order() -> None:
    outbox, woken = make()
    outbox.update("R", b"unknown race")
    outbox.expect("R")
    assert outbox.expecting("R")
    assert outbox.subscribed("R")
    outbox.update("R", b"too early")
    assert woken.times == 0
    outbox.snapshot("R", b"snapshot")
    outbox.update("R", b"1")
    outbox.update("R", b"2")
    assert woken.times == 3
    assert not outbox.expecting("R")
    assert outbox.take(EVERYTHING) == [b"snapshot", b"1", b"2"]
    assert outbox.take(EVERYTHING) == []


def test_subscribing_twice_is_a_new_snapshot_in_an_unbroken_stream() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.expect("R")
    outbox.update("R", b"1")
    outbox.snapshot("R", b"again")
    outbox.update("R", b"2")
    assert outbox.take(EVERYTHING) == [b"1", b"again", b"2"]
    assert outbox.subscriptions == 1


def test_forget_drops_what_is_pending_of_that_race_only() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    outbox.update("R", b"r1")
    outbox.update("S", b"s1")
    outbox.reply(b"reply")
    outbox.forget("R")
    outbox.reply(b"unsubscribed")
    outbox.update("R", b"r2")
    outbox.snapshot("R", b"late snapshot")
    outbox.refuse("R", b"late refusal")
    outbox.forget("never known")
    assert (outbox.update_bytes, outbox.reply_bytes, outbox.replies) == (2, 17, 2)
    assert outbox.take(EVERYTHING) == [b"s1", b"reply", b"unsubscribed"]
    assert not outbox.subscribed("R")


def test_forget_all_keeps_what_is_pending() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    outbox.update("R", b"1")
    assert outbox.forget_all() == ["R", "S"]
    outbox.update("R", b"2")
    assert outbox.take(EVERYTHING) == [b"1"]
    assert outbox.subscriptions == 0


def test_a_refused_subscription_is_none() -> None:
    outbox, _ = make()
    outbox.expect("R")
    outbox.refuse("R", b"error")
    assert not outbox.subscribed("R")
    assert outbox.take(EVERYTHING) == [b"error"]


def test_a_refused_second_subscription_leaves_the_first() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.expect("R")
    outbox.refuse("R", b"error")
    outbox.update("R", b"1")
    assert outbox.take(EVERYTHING) == [b"error", b"1"]


def test_take_is_limited_but_gives_at_least_one() -> None:
    outbox, _ = make()
    live(outbox, "R")
    for frame in (b"x" * 100, b"y" * 100, b"z" * 100):
        outbox.update("R", frame)
    assert outbox.take(200) == [b"x" * 100, b"y" * 100]
    assert outbox.take(10) == [b"z" * 100]
    assert outbox.update_bytes == 0


def test_the_limit_itself_is_allowed() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.update("R", b"x" * LIMIT)
    assert outbox.update_bytes == LIMIT
    assert outbox.next_due_s() == math.inf


def test_overflow_drops_all_updates_of_the_dashboard_and_no_reply() -> None:
    outbox, woken = make()
    live(outbox, "R", "S", "untouched")
    outbox.update("R", b"x" * 600)
    outbox.reply(b"reply")
    before = woken.times
    outbox.update("S", b"y" * 600)
    assert woken.times == before + 1
    assert outbox.update_bytes == 0
    outbox.update("R", b"r")
    outbox.update("S", b"s")
    outbox.update("untouched", b"u")
    assert outbox.take(EVERYTHING) == [b"reply", b"u"]
    assert {outbox.behind_due(0.0)[0], outbox.behind_due(RESYNC_INTERVAL_S)[0]} == {"R", "S"}
