"""dashboards/outbox.py: whatever happens in whatever order, nothing is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.dashboards.frames import Frame
from actors.dashboards.outbox import RESYNC_INTERVAL_S
from tests.dashboards.woken import EVERYTHING, make, raw


class Written(NamedTuple):
    """What the model writes into frames: the race's version after it."""

    kind: str
    race: str
    version: int

    def encode(self, padding: int) -> Frame:
        return raw(f"{self.kind} {self.race} {self.version} ".encode() + b"." * padding)

    @classmethod
    def decode(cls, frame: bytes) -> Written:
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
        kind, race, version = Written.decode(frame)
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
            outbox.snapshot(due, Written("snapshot", due, versions[due]).encode(0), resync_s=0.0)

    def subscribe(race: str, size: int) -> None:
        outbox.expect(race)
        outbox.snapshot(race, Written("snapshot", race, versions[race]).encode(size))

    def unsubscribe(race: str, size: int) -> None:
        outbox.forget(race)
        outbox.reply(Written("unsubscribed", race, 0).encode(size))

    def change(race: str, size: int) -> None:
        versions[race] += 1
        outbox.update(race, Written("update", race, versions[race]).encode(size))

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
            outbox.reply(Written("reply", race, 0).encode(size))
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
