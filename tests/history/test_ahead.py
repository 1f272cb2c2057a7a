"""When partitions are made ahead, and what is said where they cannot be."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors.core.errors import StoreMisconfigured, StoreUnavailable
from actors.history.ahead import EVERY_S
from tests.history.persisting import running, world


async def test_at_the_start_and_every_hour(autojump_clock: MockClock) -> None:
    async with world() as w:
        w.store.to_make = ["p_2026_12", "p_2027_01"]
        with capture_logs() as told:
            async with running(w):
                await trio.sleep(5)
                assert w.store.to_make == []
                w.store.to_make = ["p_2027_02"]
                await trio.sleep(EVERY_S - 10)
                assert w.store.to_make
                await trio.sleep(10)
                assert w.store.to_make == []
        made = [line["names"] for line in told if line["event"] == "partitions made ahead"]
        assert made == ["p_2026_12, p_2027_01", "p_2027_02"]


async def test_soon_after_postgresql_is_back(autojump_clock: MockClock) -> None:
    """Away at the start; then busy, so that a lock is not to be had."""
    async with world() as w:
        w.store.to_make = ["p"]
        w.store.trouble = StoreUnavailable("not yet")
        with capture_logs() as told:
            async with running(w):
                await trio.sleep(100)
                w.store.trouble, w.store.make_trouble = None, StoreUnavailable("lock timeout")
                await trio.sleep(20)
                assert w.store.to_make
                w.store.make_trouble = None
                await trio.sleep(20)
                assert w.store.to_make == []
        assert not [line for line in told if "ahead" in line["event"] and line["log_level"] == "warning"]


async def test_a_missing_right_is_said_once(autojump_clock: MockClock) -> None:
    """And again when it is another one, or when it was mended meanwhile; rows go on."""
    async with world() as w:
        with capture_logs() as told:
            async with running(w):
                for why in ("owner", "owner", "schema", None, "schema"):
                    w.store.make_trouble = StoreMisconfigured(why) if why else None
                    await trio.sleep(EVERY_S)
                    assert w.health.components["postgres"].up
        said = [line["why"] for line in told if line["event"] == "partitions cannot be made ahead"]
        assert said == ["owner", "schema", "schema"]
