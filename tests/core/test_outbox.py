"""core/outbox.py: bounded, in order, and nothing missing that is not replaced by a snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.outbox import RESYNC_INTERVAL_S, Outbox

LIMIT = 1000
EVERYTHING = 10**9


class Woken:
    """Counts calls of `wake`."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def make(limit: int = LIMIT) -> tuple[Outbox, Woken]:
    woken = Woken()
    return Outbox(limit, woken), woken


def live(outbox: Outbox, *races: str) -> None:
    """Subscribe to races and take their snapshots away."""
    for race in races:
        outbox.expect(race)
        outbox.snapshot(race, b"snapshot")
    outbox.take(EVERYTHING)


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


def overflow(outbox: Outbox, race: str) -> None:
    outbox.update(race, b"x" * (LIMIT + 1))


def test_a_resync_replaces_what_was_dropped() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.next_due_s() == -math.inf
    assert outbox.behind_due(100.0) == ["R"]
    outbox.update("R", b"between asking and getting: in the snapshot")
    outbox.snapshot("R", b"resync", resync=True)
    outbox.update("R", b"1")
    assert outbox.take(EVERYTHING) == [b"resync", b"1"]
    assert outbox.behind_due(200.0) == []


def test_no_resync_while_much_is_pending() -> None:
    outbox, _ = make()
    live(outbox, "R")
    outbox.reply(b"x" * (LIMIT // 4))
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
    outbox.refuse("S", b"error")
    assert outbox.behind_due(0.0) == ["R"]


def test_the_snapshot_of_a_request_is_as_good_as_a_resync() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(0.0) == ["R"]
    outbox.expect("R")
    outbox.snapshot("R", b"asked for")
    outbox.snapshot("R", b"resync, not needed any more", resync=True)
    outbox.update("R", b"1")
    assert outbox.take(EVERYTHING) == [b"asked for", b"1"]


def test_a_resync_snapshot_does_not_answer_a_request() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    outbox.behind_due(0.0)
    outbox.expect("R")
    outbox.snapshot("R", b"resync", resync=True)
    assert outbox.expecting("R")
    outbox.snapshot("R", b"asked for")
    assert outbox.take(EVERYTHING) == [b"resync", b"asked for"]


def test_a_race_is_resynced_at_most_once_in_the_interval() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(10.0) == ["R"]
    outbox.snapshot("R", b"resync", resync=True)
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
    outbox.snapshot("R", b"resync", resync=True)
    outbox.take(EVERYTHING)
    overflow(outbox, "R")
    overflow(outbox, "S")
    assert outbox.behind_due(10.1) == ["S"]


def test_a_resync_that_is_not_answered_is_asked_for_again() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    assert outbox.behind_due(0.0) == ["R"]
    outbox.refuse("R", b"kept to ourselves")
    assert outbox.take(EVERYTHING) == []
    assert outbox.behind_due(4.9) == []
    assert outbox.behind_due(5.0) == ["R"]


def test_a_race_forgotten_while_behind_is_not_resynced() -> None:
    outbox, _ = make()
    live(outbox, "R")
    overflow(outbox, "R")
    outbox.forget("R")
    outbox.snapshot("R", b"resync", resync=True)
    assert outbox.next_due_s() == math.inf
    assert outbox.take(EVERYTHING) == []


def test_a_race_that_lost_changes_is_resynced() -> None:
    outbox, woken = make()
    live(outbox, "R")
    outbox.update("R", b"1")
    before = woken.times
    outbox.lose("R")
    outbox.lose("R")
    outbox.lose("unknown")
    assert woken.times == before + 1
    outbox.update("R", b"after a gap")
    assert outbox.take(EVERYTHING) == [b"1"]
    assert outbox.behind_due(0.0) == ["R"]
    outbox.lose("R")
    outbox.snapshot("R", b"resync", resync=True)
    outbox.update("R", b"2")
    assert outbox.take(EVERYTHING) == [b"resync", b"2"]


def test_changes_lost_before_the_snapshot_are_in_it() -> None:
    outbox, _ = make()
    outbox.expect("R")
    outbox.lose("R")
    outbox.snapshot("R", b"snapshot")
    outbox.update("R", b"1")
    assert outbox.take(EVERYTHING) == [b"snapshot", b"1"]


class Frame(NamedTuple):
    """What the model writes into frames: the race's version after it."""

    kind: str
    race: str
    version: int

    def encode(self, padding: int) -> bytes:
        return f"{self.kind} {self.race} {self.version} ".encode() + b"." * padding

    @classmethod
    def decode(cls, frame: bytes) -> Frame:
        kind, race, version, _ = frame.decode().split(" ")
        return cls(kind, race, int(version))


RACES = ("A", "B")
step = st.tuples(
    st.sampled_from(["subscribe", "unsubscribe", "change", "change", "change", "take", "tick", "reply"]),
    st.sampled_from(RACES),
    st.integers(0, 150),
)


class Dashboard:
    """Reads frames as a dashboard would, and complains."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}  # race -> version
        self.replies = 0

    def read(self, frame: bytes) -> None:
        kind, race, version = Frame.decode(frame)
        if kind == "snapshot":
            assert version >= self.seen.get(race, 0)
            self.seen[race] = version
        elif kind == "update":
            assert version == self.seen[race] + 1
            self.seen[race] = version
        elif kind == "unsubscribed":
            self.seen.pop(race, None)
        else:
            self.replies += 1


@settings(deadline=None)  # machines are busy
@given(st.lists(step, max_size=80))
def test_a_dashboard_never_misses_a_change_without_a_snapshot_after_it(steps: list[tuple[str, str, int]]) -> None:
    outbox, _ = make(limit=400)
    dashboard = Dashboard()
    versions = dict.fromkeys(RACES, 0)
    now_s, asked, replies = 0.0, 0, 0

    def resync_due() -> None:
        for due in outbox.behind_due(now_s):
            outbox.snapshot(due, Frame("snapshot", due, versions[due]).encode(0), resync=True)

    def subscribe(race: str, size: int) -> None:
        outbox.expect(race)
        outbox.snapshot(race, Frame("snapshot", race, versions[race]).encode(size))

    def unsubscribe(race: str, size: int) -> None:
        outbox.forget(race)
        outbox.reply(Frame("unsubscribed", race, 0).encode(size))

    def change(race: str, size: int) -> None:
        versions[race] += 1
        outbox.update(race, Frame("update", race, versions[race]).encode(size))

    actions: dict[str, Callable[[str, int], None]] = {
        "subscribe": subscribe,
        "unsubscribe": unsubscribe,
        "change": change,
    }
    for what, race, size in steps:
        if what == "take":
            for frame in outbox.take(size):
                dashboard.read(frame)
        elif what == "tick":
            now_s += size / 20
            resync_due()
        elif what == "reply":
            replies += 1
            outbox.reply(Frame("reply", race, 0).encode(size))
        else:
            asked += 1
            actions[what](race, size)
        assert 0 <= outbox.update_bytes <= 400
    for _ in range(2 * len(RACES)):
        for frame in outbox.take(EVERYTHING):
            dashboard.read(frame)
        now_s += RESYNC_INTERVAL_S
        resync_due()
    assert dashboard.replies == replies
    assert (outbox.update_bytes, outbox.reply_bytes, outbox.replies) == (0, 0, 0)
    assert dashboard.seen == {race: versions[race] for race in RACES if outbox.subscribed(race)}


@pytest.mark.parametrize("race", RACES)
def test_boxes_can_be_keys(race: str) -> None:
    outbox, _ = make()
    assert {outbox: race}[outbox] == race
