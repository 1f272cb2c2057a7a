"""The peer of ../shared/peer on the same servers, measured by its own tools/bench.mjs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.benchmarks.site import Site
from tests.servers import free_port

VARIANTS = {
    "peer, socketio single": {"WS_MODE": "socketio", "STORE_MODE": "single"},
    "peer, ws batch unnest": {"WS_MODE": "ws", "STORE_MODE": "batch", "BATCH_SQL": "unnest"},
}
START_S = 30.0


@asynccontextmanager
async def _running(folder: Path, site: Site, variant: str, log: Path) -> AsyncIterator[int]:
    """`node dist/main.js`, ready; yields its port."""
    node = shutil.which("node")
    assert node, "node is not installed"
    port = free_port()
    environment = {
        **os.environ,
        **VARIANTS[variant],
        "NODE_ENV": "production",
        "PORT": str(port),
        "MQTT_BROKER_URL": f"mqtt://127.0.0.1:{site.broker.port}",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(site.redis.port),
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": str(site.postgres.port),
        "POSTGRES_USERNAME": "postgres",
        "POSTGRES_DATABASE": "tracking",
    }
    with log.open("wb") as output:
        app = await trio.lowlevel.open_process(
            [node, "dist/main.js"], cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        with trio.fail_after(START_S):
            while "listening on" not in (said := await trio.Path(log).read_text()):
                assert app.poll() is None, said
                await trio.sleep(0.1)
        yield port
    finally:
        with trio.CancelScope(shield=True):
            if app.poll() is None:
                app.terminate()
            await app.wait()


async def measure(folder: Path, site: Site, variant: str, count: int, participants: int) -> dict[str, float]:
    """One burst into a fresh process and table, after a warm-up. Same keys as our own measurement."""
    await site.new_database("tracking", (folder / "sql" / "schema.sql").read_text())
    async with _running(folder, site, variant, site.broker.folder / "peer.log") as port:
        for messages in (count // 10, count):
            tool = ["node", "tools/bench.mjs", "--n", str(messages), "--participants", str(participants)]
            tool += ["--app", f"http://127.0.0.1:{port}"]
            tool += ["--mqtt", str(site.broker.port), "--pg", str(site.postgres.port)]
            done = await trio.run_process(tool, cwd=folder, capture_stdout=True)
    result = json.loads(done.stdout)
    return {
        "rows_per_s": result["rowsPerSec"],
        "cpu_us": result["appCpuUsPerMsg"],
        "p50_ms": result["latencyMs"]["p50"],
        "p99_ms": result["latencyMs"]["p99"],
        "rss_mib": result["rssMiB"],
        "resyncs": 0,
    }
