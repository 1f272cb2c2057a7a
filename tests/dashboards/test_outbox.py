"""dashboards/outbox.py: order, and what does not fit."""

from __future__ import annotations

import math
import weakref

from actors.dashboards.frames import LARGE_BYTES, Frame, Shared
from actors.dashboards.outbox import RESYNC_INTERVAL_S, Outbox
from tests.dashboards.woken import EVERYTHING, LIMIT, live, make, raw


def test_updates_before_the_snapshot_are_ignored_and_after_it_in_order() -> None:
    outbox, woken = make()
    outbox.update("R", raw(b"unknown race"))
    outbox.expect("R")
    assert outbox.expecting("R")
    assert outbox.subscribed("R")
    outbox.update("R", raw(b"too early"))
    assert woken.times == 0
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.update("R", raw(b"1"))
    outbox.update("R", raw(b"2"))
    assert woken.times == 3
    assert not outbox.expecting("R")
    assert outbox.take(EVERYTHING) == [b"snapshot", b"1", b"2"]
    assert outbox.take(EVERYTHING) == []


def test_subscribing_twice_is_a_new_snapshot_in_an_unbroken_stream() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.expect("R")
    outbox.update("R", raw(b"1"))
    outbox.snapshot("R", raw(b"again"))
    outbox.update("R", raw(b"2"))
    assert outbox.take(EVERYTHING) == [b"1", b"again", b"2"]
    assert outbox.subscriptions == 1


def test_forget_drops_what_is_pending_of_that_race_only() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    outbox.update("R", raw(b"r1"))
    outbox.update("S", raw(b"s1"))
    outbox.reply(raw(b"reply"))
    outbox.forget("R")
    outbox.reply(raw(b"unsubscribed"))
    outbox.update("R", raw(b"r2"))
    outbox.snapshot("R", raw(b"late snapshot"))
    outbox.refuse("R", raw(b"late refusal"))
    outbox.forget("never known")
    assert (outbox.update_bytes, outbox.reply_bytes, outbox.replies) == (2, 17, 2)
    assert outbox.take(EVERYTHING) == [b"s1", b"reply", b"unsubscribed"]
    assert not outbox.subscribed("R")


def test_forget_all_keeps_what_is_pending() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    outbox.update("R", raw(b"1"))
    assert outbox.forget_all() == ["R", "S"]
    outbox.update("R", raw(b"2"))
    assert outbox.take(EVERYTHING) == [b"1"]
    assert outbox.subscriptions == 0


def test_a_dashboard_that_goes_is_held_by_nobody() -> None:
    """Not by its own outbox: only a search of everything would find it."""

    class Dashboard:
        def __init__(self) -> None:
            self.outbox = Outbox(100, self.wake)

        def wake(self) -> None: ...

    dashboard = Dashboard()
    live(dashboard.outbox, "R")
    dashboard.outbox.forget_all()
    gone = weakref.ref(dashboard)
    del dashboard
    assert gone() is None


def test_a_refused_subscription_is_none() -> None:
    outbox, _ = make()
    outbox.expect("R")
    outbox.refuse("R", raw(b"error"))
    assert not outbox.subscribed("R")
    assert outbox.take(EVERYTHING) == [b"error"]


def test_a_refused_second_subscription_leaves_the_first() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.expect("R")
    outbox.refuse("R", raw(b"error"))
    outbox.update("R", raw(b"1"))
    assert outbox.take(EVERYTHING) == [b"error", b"1"]


def test_take_is_limited_but_gives_at_least_one() -> None:
    outbox, _ = make()
    live(outbox, "R")
    for frame in (b"x" * 100, b"y" * 100, b"z" * 100):
        outbox.update("R", raw(frame))
    assert outbox.take(200) == [b"x" * 100, b"y" * 100]
    assert outbox.take(10) == [b"z" * 100]
    assert outbox.update_bytes == 0


def test_the_limit_itself_is_allowed() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.update("R", raw(b"x" * LIMIT))
    assert outbox.update_bytes == LIMIT
    assert outbox.next_due_s() == math.inf


def test_overflow_drops_all_updates_of_the_dashboard_and_no_reply() -> None:
    outbox, woken = make()
    live(outbox, "R", "S", "untouched")
    outbox.update("R", raw(b"x" * 600))
    outbox.reply(raw(b"reply"))
    before = woken.times
    outbox.update("S", raw(b"y" * 600))
    assert woken.times == before + 1
    assert outbox.update_bytes == 0
    outbox.update("R", raw(b"r"))
    outbox.update("S", raw(b"s"))
    outbox.update("untouched", raw(b"u"))
    assert outbox.take(EVERYTHING) == [b"reply", b"u"]
    assert {outbox.behind_due(0.0)[0], outbox.behind_due(RESYNC_INTERVAL_S)[0]} == {"R", "S"}


def test_what_counts_is_what_goes_out() -> None:
    frame = Frame(b'{"event":"position_update","data":{"raceId":"R"}}' * 30)
    assert len(frame.deflated) < LIMIT // 10 < LIMIT < len(frame.plain)
    for deflated, sent in ((True, frame.deflated), (False, frame.plain)):
        outbox = Outbox(LIMIT, lambda: None, deflated)
        live(outbox, "R")
        outbox.reply(frame)
        assert outbox.reply_bytes == len(sent)
        outbox.update("R", frame)
        assert outbox.update_bytes == (len(sent) if deflated else 0), "plain it does not fit"
        assert outbox.take(EVERYTHING) == [sent] * (1 + deflated)
        assert outbox.behind_due(0.0) == ([] if deflated else ["R"])


def test_updates_wait_behind_a_snapshot_that_is_being_made() -> None:
    outbox, woken = make()
    live(outbox, "S")
    outbox.expect("R")
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.update("S", raw(b"s"))
    assert outbox.take(EVERYTHING) == [b"s"]
    assert outbox.update_bytes == 1
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.update("R", raw(b"2"))
    outbox.release("R")
    outbox.update("R", raw(b"3"))
    times = woken.times
    assert outbox.take(EVERYTHING) == [b"snapshot", b"1", b"2", b"3"]
    assert outbox.update_bytes == 0
    outbox.release("R")
    assert woken.times == times


def test_it_is_asked_for_anew_where_an_update_behind_it_did_not_fit() -> None:
    outbox, _ = make()
    live(outbox, "S")
    outbox.expect("R")
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.update("S", raw(b"s"))
    outbox.update("R", raw(b"x" * LIMIT))
    outbox.update("R", raw(b"ignored"))
    assert outbox.update_bytes == 0
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.release("R")
    outbox.update("R", raw(b"ignored too"))
    assert outbox.take(EVERYTHING) == [b"snapshot"]
    assert outbox.behind_due(0) == ["S"]
    assert outbox.behind_due(RESYNC_INTERVAL_S) == ["R"]


def test_what_is_pending_needs_no_resync_where_a_snapshot_is_on_its_way() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    outbox.update("R", raw(b"old"))
    outbox.hold("R")
    outbox.update("S", raw(b"x" * LIMIT))
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.release("R")
    assert outbox.behind_due(0) == ["S"]
    outbox.update("R", raw(b"1"))
    assert outbox.take(EVERYTHING) == [b"snapshot", b"1"]


def test_changes_that_a_race_lost_are_not_in_the_snapshot_that_it_makes() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.lose("R")
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.release("R")
    assert outbox.take(EVERYTHING) == [b"snapshot"]
    assert outbox.behind_due(0) == ["R"]


def test_a_resync_in_turns() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.lose("R")
    assert outbox.behind_due(0) == ["R"]
    outbox.update("R", raw(b"0"))
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.snapshot("R", raw(b"resync"), resync_s=1.0)
    outbox.release("R")
    outbox.update("R", raw(b"2"))
    assert outbox.take(EVERYTHING) == [b"resync", b"1", b"2"]
    assert outbox.next_due_s() == math.inf


def test_one_that_is_begun_again_is_of_a_later_moment() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.hold("R")
    outbox.update("R", raw(b"2"))
    assert outbox.update_bytes == 1
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.release("R")
    assert outbox.take(EVERYTHING) == [b"snapshot", b"2"]


def test_one_that_is_refused_holds_nothing_back() -> None:
    outbox, _ = make()
    live(outbox, "R", "B")
    outbox.lose("B")
    for race in ("R", "B", "N"):
        outbox.expect(race)
        outbox.hold(race)
        outbox.update(race, raw(race.encode()))
    outbox.refuse("R", raw(b"no"))
    outbox.refuse("B", raw(b"no"))
    outbox.refuse("N", raw(b"no"))
    outbox.update("R", raw(b"r"))
    assert outbox.take(EVERYTHING) == [b"R", b"no", b"no", b"no", b"r"]
    assert outbox.update_bytes == 0
    assert outbox.behind_due(0) == ["B"]
    assert not outbox.subscribed("N")


def test_who_unsubscribes_meanwhile_leaves_nothing_held() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    for race in ("R", "S"):
        outbox.hold(race)
        outbox.update(race, raw(b"1"))
    outbox.forget("R")
    assert outbox.update_bytes == 1
    outbox.release("R")
    outbox.release("S")
    assert outbox.take(EVERYTHING) == [b"1"]


def test_a_large_reply_counts_once_and_its_fragments_are_never_dropped() -> None:
    outbox, _ = make()
    live(outbox, "R")
    parts = [Shared(b"x" * LARGE_BYTES)] * 2
    frame = Frame(b"a", *parts, b"z")
    outbox.reply(frame)
    outbox.update("R", raw(b"1"))
    outbox.update("R", raw(b"x" * LIMIT))
    assert (outbox.replies, outbox.reply_bytes) == (1, sum(map(len, frame.pieces(False))))
    assert outbox.take(1) == frame.pieces(False)[:1]
    assert outbox.replies == 1
    assert outbox.take(EVERYTHING) == frame.pieces(False)[1:]
    assert (outbox.replies, outbox.reply_bytes) == (0, 0)


def test_what_waits_behind_a_snapshot_is_dropped_with_what_overflows() -> None:
    outbox, _ = make()
    live(outbox, "R", "S")
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.update("S", raw(b"x" * LIMIT))
    outbox.snapshot("R", raw(b"snapshot"))
    outbox.release("R")
    assert outbox.take(EVERYTHING) == [b"snapshot"]
    assert outbox.behind_due(0) == ["S"]
    assert outbox.behind_due(RESYNC_INTERVAL_S) == ["R"]


def test_a_snapshot_for_who_has_left_holds_nothing() -> None:
    outbox, woken = make()
    outbox.hold("R")
    outbox.update("R", raw(b"1"))
    outbox.release("R")
    assert (outbox.update_bytes, woken.times) == (0, 0)
