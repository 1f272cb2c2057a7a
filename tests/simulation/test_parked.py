"""A race that crashes again and again: a fix that is to blame goes, else its live view; nothing else notices."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
import trio
from starlette.requests import Request
from trio.testing import MockClock

from actors.core.fix import Fix
from actors.http.api import Probes
from actors.races.live_positions import Change, LivePositions
from actors.supervision.status import tree_status
from tests.simulation.world import World, running_daemon

UNLUCKY_LATITUDE = 13.0


async def move(world: World, *participants: str, latitude: float = 47.0) -> None:
    """A fix of each in both races, a second apart."""
    for participant in participants:
        for race in ("R1", "R2"):
            world.publish(participant, race=race, latitude=latitude)
        await trio.sleep(1)


def told(world: World) -> dict[str, tuple[str, str]]:
    """What `supervisor.py status` shows of the races: state and last crash."""
    daemon = world.daemon
    rows = tree_status(daemon.tree.children, daemon.races.children, daemon.health, "node", 0.0)["actors"]
    return {row["actor"]: (row["state"], row["last_crash"]) for row in rows if row["actor"].startswith("race ")}


async def ready(world: World) -> tuple[int, int]:
    """Status of /readyz/ingest, and the parked races that it tells."""
    probes = Probes(world.daemon.health, world.daemon.metrics, world.daemon.races)
    answer = await probes.ready_for_ingest(Request({"type": "http"}))
    return answer.status_code, json.loads(bytes(answer.body))["parkedRaces"]


async def test_a_poison_fix_becomes_a_rejection_and_its_race_goes_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = LivePositions.changes

    def touchy(self: LivePositions, fixes: Iterable[Fix], now_ms: int) -> list[Change]:
        fixes = list(fixes)
        if any(fix.lat_e7 == UNLUCKY_LATITUDE * 1e7 and fix.race_id == "R1" for fix in fixes):
            raise ZeroDivisionError("unlucky")
        return changes(self, fixes, now_ms)

    monkeypatch.setattr(LivePositions, "changes", touchy)
    async with running_daemon() as world:
        viewer = world.watch("R1")
        await trio.sleep(1)
        await move(world, "P1")
        for i in range(20):  # more than the restart budget: poison does not count
            await move(world, f"bad{i}", latitude=UNLUCKY_LATITUDE)
            await trio.sleep(5)
        await move(world, "P2")
        await trio.sleep(5)
        assert [p["participantId"] for p in viewer.updates()] == ["P1", "P2"]
        assert {rejection.code for rejection in world.store.rejected.values()} == {"poison"}
        assert len(world.store.rejected) == 20
        assert len(world.store.rows) == 24
        assert world.broker.queue == {}
        assert {state for state, _ in told(world).values()} == {"running"}
        assert world.count("actor_restarts_total", actor="race") == 40
        assert await ready(world) == (200, 0)
        world.check_conservation()
    assert world.exit_code == 0


async def test_spent_budget_stops_the_live_view_of_one_race_alone(autojump_clock: MockClock) -> None:
    async with running_daemon() as world:
        viewer, other = world.watch("R1"), world.watch("R2")
        await trio.sleep(1)
        await move(world, "P1")
        for _ in range(world.daemon.settings.supervisor.max_restarts + 1):
            while "race R1" not in world.daemon.crashes.running:
                await trio.sleep(0.1)
            world.daemon.crashes.crash("race R1")
            await trio.sleep(0.1)
        assert told(world) == {
            "race R1": ("parked", "RuntimeError: made to crash: race R1"),
            "race R2": ("running", ""),
        }
        assert await ready(world) == (200, 1)
        assert world.count("actors_parked", actor="race") == 1
        assert [told["code"] for told in viewer.named("error")] == ["unavailable"]

        await move(world, "P1", "P2", "P3")
        await trio.sleep(5)
        assert len(world.store.rows) == 8
        assert world.broker.queue == {}
        assert [p["participantId"] for p in other.updates()] == ["P1", "P1", "P2", "P3"]
        assert [p["participantId"] for p in viewer.updates()] == ["P1"]
        late = world.watch("R1")
        assert [told["code"] for told in late.named("error")] == ["unavailable"]
        world.check_conservation()
    assert world.exit_code == 0
