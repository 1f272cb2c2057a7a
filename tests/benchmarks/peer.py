"""The peer on the servers of the site: the same job in Node, in a folder in which `npm ci && npm run build` was run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.site import Site
from tests.benchmarks.subject import START_S, STOP_S, Subject
from tests.kit.daemon import Running, until
from tests.kit.servers import free_port

VARIANTS = {
    "peer socketio single": {"WS_MODE": "socketio", "STORE_MODE": "single"},
    "peer ws batch unnest": {"WS_MODE": "ws", "STORE_MODE": "batch", "BATCH_SQL": "unnest"},
}
DATABASE = "tracking"


@contextmanager
def running_peer(folder: Path, site: Site, variant: str) -> Iterator[Subject]:
    """`node dist/main.js`, ready, with an empty table."""
    node = shutil.which("node")
    assert node, "node is not installed"
    site.afresh(DATABASE, (folder / "sql" / "schema.sql").read_text())
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
        "POSTGRES_DATABASE": DATABASE,
    }
    log = site.folder / "peer.log"
    with log.open("wb") as output:
        app = subprocess.Popen([node, "dist/main.js"], cwd=folder, env=environment, stdout=output, stderr=output)

    def listens() -> bool:
        assert app.poll() is None, log.read_text()
        return "listening on" in log.read_text()

    try:
        until(listens, "the peer listens", START_S)
        yield Subject(Running(port, app, log), VARIANTS[variant]["WS_MODE"], DATABASE)
    finally:
        app.terminate()
        try:
            app.wait(STOP_S)
        finally:
            app.kill()
            app.wait()
