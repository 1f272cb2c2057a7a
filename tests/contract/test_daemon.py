"""The real thing: real broker, PostgreSQL and Redis, the daemon as a process, dashboards over TCP."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
import trio

from actors.cache.redis import RedisStore
from actors.core.addresses import RedisAddress
from actors.history.postgres.libpq import connect
from tests.kit.daemon import daemon, dashboard, external, newest, recording, run_command, write_settings
from tests.kit.servers import free_port
from tests.kit.stores import Database
from tests.mqtt.mqtt_desk import Mosquitto, mosquitto
from tests.mqtt.mqtt_listener import listening

pytestmark = pytest.mark.live


@attrs.define(eq=False)
class Site:
    """Servers, and settings that point to them."""

    folder: Path
    broker: Mosquitto
    database: Database
    redis: RedisAddress
    port: int

    def settings(self, **more: dict[str, object]) -> Path:
        sections = external(self.broker.port, self.redis, self.database.address, self.port)
        for section, keys in more.items():
            sections.setdefault(section, {}).update(keys)
        return write_settings(self.folder, sections)

    async def rows(self) -> set[tuple[str, ...]]:
        """(race, participant, timestamp) of every row; fails when one is there twice."""
        sql = (
            "select race_id::text, participant_id::text, "
            "to_char(client_timestamp at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from tracking_positions"
        )
        found = [tuple(row) for row in await self.database.rows(sql)]
        assert len(found) == len(set(found))
        return set(found)


def keys(fixes: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    return {(fix["race_id"], fix["participant_id"], fix["timestamp"]) for fix in fixes}


@pytest.fixture
async def site(tmp_path: Path, database: Database, redis_process: tuple[RedisAddress, int]) -> AsyncIterator[Site]:
    address = redis_process[0]
    with redis.Redis(port=address.port, password=address.password.reveal()) as shared:
        shared.flushall()  # what other tests left would be restored as live
    async with mosquitto(tmp_path) as broker:
        yield Site(tmp_path, broker, database, redis_process[0], free_port())


async def test_a_recording_travels_the_whole_way_once(site: Site) -> None:
    file = site.folder / "race.jsonl"
    fixes = recording(file)
    expected = newest(fixes)
    async with daemon(site.settings(), site.port) as running, dashboard(running, "R-0", "R-1") as early:
        await running.command("replay", str(file), "--speed", "0")
        published = len(file.read_text().splitlines())
        await running.until_metric("fixes_committed_total", len(fixes))
        await early.until(lambda: {key: p["timestamp"] for key, p in early.live.items()} == expected)
        assert await site.rows() == keys(fixes)
        assert early.went_back == []
        async with dashboard(running, "R-0", "R-1") as late:
            assert {key: p["timestamp"] for key, p in late.live.items()} == expected

        cache = RedisStore(site.redis, node_id="test", ttl_s=60)
        for race in ("R-0", "R-1"):
            assert {f.participant_id for f in await cache.newest(race)} == {p for r, p in expected if r == race}
        await cache.aclose()

        seen = len(early.updates)
        await running.command("replay", str(file), "--speed", "0")
        await running.until_metric("fixes_received_total", 2 * published)
        await running.until_metric("fixes_duplicate_total", 2 * published - len(fixes))
        assert await site.rows() == keys(fixes)
        assert len(early.updates) == seen
        assert await running.conservation_holds()

        exported = await running.command("export", "R-1", "--format", "jsonl")
        assert len(exported.stdout.splitlines()) == len([f for f in fixes if f["race_id"] == "R-1"])
        again = site.folder / "again.jsonl"
        again.write_bytes(exported.stdout)
        await running.command("replay", str(again), "--speed", "0")
        assert await site.rows() == keys(fixes)
        assert await running.stop() == 0


async def test_killed_in_the_middle_nothing_is_lost_or_doubled(site: Site) -> None:
    file = site.folder / "race.jsonl"
    fixes = recording(file, races=3, participants=40, fixes=200)  # a quick daemon must not have them all before its end
    settings = site.settings()
    async with trio.open_nursery() as nursery:
        for round_number in range(3):
            async with daemon(settings, site.port) as running:
                if round_number == 0:
                    nursery.start_soon(run_command, settings, "replay", str(file), "--speed", "0")
                await running.until_metric("fixes_received_total", 300)
                running.process.kill()
                await running.process.wait()
    async with daemon(settings, site.port) as running:
        with trio.fail_after(60):
            while await site.rows() != keys(fixes):
                await trio.sleep(0.1)
        async with dashboard(running, "R-0", "R-1", "R-2") as board:
            assert {key: p["timestamp"] for key, p in board.live.items()} == newest(fixes)
        assert await running.conservation_holds()
        assert await running.stop() == 0


async def test_sigterm_under_load_commits_everything_taken_and_says_1001(site: Site) -> None:
    file = site.folder / "race.jsonl"
    fixes = recording(file, races=2, participants=50, fixes=60)
    settings = site.settings()
    async with (
        trio.open_nursery() as nursery,
        daemon(settings, site.port) as running,
        dashboard(running, "R-0") as board,
    ):
        nursery.start_soon(run_command, settings, "replay", str(file), "--speed", "0")
        await running.until_metric("fixes_received_total", 500)
        assert await running.stop() == 0
        await board.until(lambda: board.closed is not None)
        assert board.closed == 1001
        assert "drained" in running.log.read_text()
    async with daemon(settings, site.port) as running:
        with trio.fail_after(60):
            while await site.rows() != keys(fixes):
                await trio.sleep(0.1)
        assert await running.metric("fixes_duplicate_total") <= 20, "only what the recording holds twice"
        assert await running.conservation_holds()


async def test_second_signal_ends_at_once_with_1(site: Site) -> None:
    fix = b'{"participant_id":"P1","race_id":"R1","latitude":1,"longitude":2,"timestamp":"2026-06-01T08:00:00Z"}'
    async with daemon(site.settings(), site.port) as running:
        await site.database.run("begin; lock table tracking_positions")  # the drain cannot end
        await site.broker.publish("tracking/P1/position", [fix])
        await running.until_metric("fixes_in_flight", 1)
        running.process.send_signal(signal.SIGTERM)
        with trio.fail_after(30):
            while "draining" not in running.log.read_text():
                await trio.sleep(0.02)
        assert await running.stop(signal.SIGINT, within_s=10) == 1  # the drain would take 15 s
        await site.database.run("rollback")  # PostgreSQL may still commit what waited, whoever sent it
    async with daemon(site.settings(), site.port) as again:
        await again.until_metric("messages_received_total", 1)  # it was not acknowledged
        with trio.fail_after(30):
            while await site.rows() != {("R1", "P1", "2026-06-01T08:00:00Z")}:
                await trio.sleep(0.05)
        assert await again.conservation_holds()


@asynccontextmanager
async def postgresql_away(site: Site) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Nobody may connect, and who is connected is thrown out: as good as gone, for the daemon. Yields how to end it."""
    name = site.database.address.database
    admin = await connect(attrs.evolve(site.database.address, database="postgres"), "test", 10)
    await admin.script(f"alter database {name} with allow_connections false")
    await admin.script(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        f"where datname = '{name}' and application_name <> 'test'"
    )

    async def back() -> None:
        await admin.script(f"alter database {name} with allow_connections true")

    yield back
    await back()
    admin.close()


async def test_without_a_spool_nothing_is_acknowledged_while_postgresql_is_away(site: Site) -> None:
    file = site.folder / "race.jsonl"
    fixes = recording(file, races=1, participants=5, fixes=20)
    settings = site.settings(postgres={"spool": "no"})
    async with (
        daemon(settings, site.port) as running,
        dashboard(running, "R-0") as board,
        postgresql_away(site) as back,
    ):
        await running.command("replay", str(file), "--speed", "0")
        await board.until(lambda: board.timestamps("R-0") == {p: t for (_, p), t in newest(fixes).items()})
        assert await running.metric("acks_total") == 0
        with trio.fail_after(30):
            while (answer := await running.get("/readyz/ingest"))[0] != 503:  # at the latest when a batch is due
                await trio.sleep(0.05)
        assert b"postgres" in answer[1]
        await back()
        await running.until_metric("fixes_committed_total", len(fixes))
        assert await site.rows() == keys(fixes)
        await running.until_metric("acks_total", len(file.read_text().splitlines()))
        assert await running.stop() == 0


async def test_the_spool_takes_over_survives_a_kill_and_drains(site: Site) -> None:
    file = site.folder / "race.jsonl"
    fixes = recording(file, races=1, participants=10, fixes=30)
    lines = len(file.read_text().splitlines())
    settings = site.settings(postgres={"spool_after_s": 1})
    async with daemon(settings, site.port) as running, dashboard(running, "R-0") as board, postgresql_away(site):
        await running.command("replay", str(file), "--speed", "0")
        await running.until_metric("acks_total", lines)
        await board.until(lambda: board.timestamps("R-0") == {p: t for (_, p), t in newest(fixes).items()})
        assert await running.metric("fixes_spooled") == len(fixes)
        assert await running.conservation_holds()
        assert (await running.get("/readyz/ingest"))[0] == 200
        assert await site.rows() == set()
        running.process.kill()
        await running.process.wait()
    async with daemon(settings, site.port) as running:
        await running.until_metric("fixes_committed_total", len(fixes))
        assert await running.metric("fixes_recovered_total") == len(fixes)
        assert await running.metric("fixes_spooled") == 0
        assert await running.conservation_holds()
        assert await site.rows() == keys(fixes)
        async with dashboard(running, "R-0") as board:
            assert board.timestamps("R-0") == {p: t for (_, p), t in newest(fixes).items()}
        assert await running.stop() == 0


async def test_receipts_after_the_commit_for_duplicates_and_rejections_too(site: Site) -> None:
    good = b'{"participant_id":"P1","race_id":"R1","latitude":1,"longitude":2,"timestamp":"2026-06-01T08:00:00.0Z"}'
    settings = site.settings(mqtt={"receipt_topic": "tracking/{participant_id}/receipt"})
    async with daemon(settings, site.port) as running:
        with listening(site.broker.port, "tracking/+/receipt") as listener:
            await site.broker.publish("tracking/P1/position", [good, good, good.replace(b":1,", b":91,")])
            heard: list[dict[str, Any]] = []
            with trio.fail_after(30):
                while sum(len(entry["timestamps"]) + len(entry["rejected"]) for entry in heard) < 3:
                    await trio.sleep(0.05)
                    heard = [json.loads(payload) for _, payload in list(listener.messages)]
        assert {topic for topic, _ in listener.messages} == {"tracking/P1/receipt"}
        assert [t for entry in heard for t in entry["timestamps"]] == ["2026-06-01T08:00:00.0Z"] * 2
        assert [r["code"] for entry in heard for r in entry["rejected"]] == ["bad_coordinate"]
        assert await running.metric("fixes_committed_total") == 1
        assert await running.stop() == 0


async def test_rejections_are_stored_listed_and_acknowledged(site: Site) -> None:
    good = b'{"participant_id":"P1","race_id":"R1","latitude":1,"longitude":2,"timestamp":"2026-06-01T08:00:00Z"}'
    bad = [b"rubbish", b"null", b"[" * 1000, b'{"race_id":"R1"}', b"\xff\xfe{"]
    async with daemon(site.settings(), site.port) as running:
        await site.broker.publish("tracking/P1/position", [*bad, good, bad[0]])
        await site.broker.publish("tracking/P1/position", [good.replace(b"P1", b"P2")], qos=0)
        await site.broker.publish("tracking/P3/position", [good.replace(b"P1", b"P3")], "-r")
        await running.until_metric("fixes_committed_total", 3)
        await running.until_metric("acks_total", len(bad) + 3)
        listed = await running.command("rejections", "--json")
        assert len(listed.stdout.splitlines()) >= 1
        rows = await site.database.rows("select code from tracking_rejections order by code")
        assert rows == [["bad_encoding"], ["bad_json"], ["bad_json"], ["bad_type"], ["missing_field"]]
        assert await running.metric("fixes_rejected_total") == 6
        assert await running.conservation_holds()
        assert await running.stop() == 0


async def test_bad_settings_exit_2_and_start_nothing(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, {"app": {"prot": 3000}, "mqtt": {"qos": 2}})
    done = await run_command(settings, check=False)
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 2
    assert "port" in lines[0]
    assert not (tmp_path / "var").exists()


async def test_a_data_dir_belongs_to_one_daemon(site: Site) -> None:
    settings = site.settings()
    async with daemon(settings, site.port) as running:
        second = await run_command(settings, check=False)
        assert second.returncode == 1
        assert b"another daemon" in second.stderr
        assert (await running.get("/healthz"))[0] == 200
        status = await running.command("status")
        assert b"reader" in status.stdout
    assert (await run_command(settings, "status", check=False)).returncode == 1


async def test_race_ids_that_need_escaping_work_everywhere(site: Site) -> None:
    race = "Rénnen@2026"
    payload = (
        f'{{"participant_id":"Zoë","race_id":"{race}","latitude":1,"longitude":2,"timestamp":"2026-06-01T08:00:00Z"}}'
    )
    async with daemon(site.settings(), site.port) as running, dashboard(running, race) as board:
        await site.broker.publish("tracking/x/position", [payload.encode()])
        await board.until(lambda: board.updates)
        assert board.updates[0]["participantId"] == "Zoë"
        await running.until_metric("fixes_committed_total", 1)
        status, body = await running.get("/api/races/R%C3%A9nnen@2026/positions", await running.token())
        assert status == 200
        assert "Zoë".encode() in body
