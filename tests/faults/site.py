"""A daemon with a proxy in front of each of its servers, and a process that can be killed and started again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs

from actors.core.addresses import PostgresAddress
from tests.faults.press import Press
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.spectator import Spectator
from tests.kit.daemon import Running, until
from tests.kit.servers import free_port
from tests.kit.station import Station, station

KEYS: dict[str, dict[str, object]] = {
    "mqtt": {"keepalive_s": 2},
    "postgres": {"spool_after_s": 1},
    "supervisor": {"drain_timeout_s": 5},
}
"""Short ones, so that every reaction to a fault is seen in a short test."""


@attrs.define(eq=False)
class Daemon:
    """The daemon over all its lives. After the block of `running_site` nothing of it is left."""

    at: Station
    _life: ExitStack = attrs.field(factory=ExitStack)
    _running: Running | None = None

    @property
    def running(self) -> Running:
        assert self._running is not None, "not started"
        return self._running

    def start(self, *, ready: bool = True) -> Running:
        """A new life."""
        self._running = self._life.enter_context(self.at.daemon(ready=ready))
        return self._running

    def kill(self) -> None:
        """SIGKILL."""
        self.running.kill()
        self._ended()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        code = self.running.stop()
        self._ended()
        return code

    def freeze(self) -> None:
        """SIGSTOP."""
        self.running.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.running.process.send_signal(signal.SIGCONT)

    @property
    def started(self) -> bool:
        return self._running is not None

    def end(self) -> None:
        """Whatever it does."""
        if self.started:
            self.kill()

    def answers(self) -> bool:
        """It lives. Raises when it ended by itself."""
        code = self.running.process.poll()
        assert code is None, f"the daemon ended by itself with {code}:\n{self.running.log[-3000:]}"
        with suppress(OSError):
            return self.running.get("/healthz")[0] == 200
        return False

    def _ended(self) -> None:
        self.running.process.wait()
        self._running = None
        self._life.close()


@attrs.define(eq=False)
class Site:
    """Press, spectators and checker reach the servers directly, the daemon through the proxies."""

    at: Station
    daemon: Daemon
    broker: Proxy
    postgres: Proxy
    redis: Proxy

    @contextmanager
    def race_day(self, *races: str, rate: float, seed: int = 1) -> Iterator[tuple[Press, Spectator]]:
        """The daemon started, a press and a dashboard of these races.

        In this order: before its first subscription nobody keeps messages for the daemon.
        """
        self.daemon.start()
        with (
            Press(self.at.broker.port, races, rate=rate, seed=seed, resting=2) as press,
            Spectator(self.at.port, races) as board,
        ):
            yield press, board

    def kill_broker(self, press: Press) -> None:
        """SIGKILL while everything that it acknowledged to trackers is in its database: then nothing may be lost.

        mosquitto writes that every second or two, and killed it forgets what came since. So the press rests, and a save
        is seen. What the daemon acknowledged since comes again.
        """
        press.pause()
        resting_since = time.time()
        saved = self.at.broker.folder / "mosquitto.db"
        until(lambda: saved.exists() and saved.stat().st_mtime > resting_since, "the broker saves")
        self.at.broker.kill()
        press.resume()

    def calm(self) -> None:
        """No daemon, and proxies that pass everything on."""
        self.daemon.end()
        for proxy in (self.broker, self.postgres, self.redis):
            proxy.reset()
            proxy.release()
            proxy.refuse(False)
            proxy.black_hole(False)
            proxy.delay_s = 0.0


@attrs.define(eq=False)
class OtherNode:
    """A node that reads nothing, with ways of its own to the stores."""

    daemon: Daemon
    postgres: Proxy
    redis: Proxy


@contextmanager
def other_node(site: Site) -> Iterator[OtherNode]:
    """Started, beside the site's daemon, which has `[cluster] relay`. Afterwards nothing of it is left."""
    folder = site.at.folder / "other"
    folder.mkdir()
    with (
        proxy_to(site.postgres.server_port) as postgres,
        proxy_to(site.redis.server_port) as redis,
        ExitStack() as over,
    ):
        keys: dict[str, dict[str, object]] = {
            **site.at.keys,
            "app": {"node_id": "other"},
            "cluster": {"relay": "yes", "ingest": "none"},
            "postgres": site.at.keys["postgres"] | {"port": postgres.port},
            "redis": {"port": redis.port},
        }
        node = OtherNode(Daemon(attrs.evolve(site.at, folder=folder, port=free_port(), keys=keys)), postgres, redis)
        over.callback(node.daemon.end)
        node.daemon.start()
        yield node


@contextmanager
def running_site(folder: Path, server: PostgresAddress, **keys: dict[str, object]) -> Iterator[Site]:
    """`keys` on top of KEYS. The daemon is not started."""
    with station(folder, server) as at, ExitStack() as proxies:
        broker, postgres, redis = (
            proxies.enter_context(proxy_to(port)) for port in (at.broker.port, server.port, at.redis.port)
        )
        at.keys = {name: KEYS.get(name, {}) | keys.get(name, {}) for name in KEYS | keys}
        at.keys["mqtt"]["broker_url"] = f"mqtt://127.0.0.1:{broker.port}"
        at.keys["postgres"]["port"] = postgres.port
        at.keys["redis"] = at.keys.get("redis", {}) | {"port": redis.port}
        site = Site(at, Daemon(at), broker, postgres, redis)
        try:
            yield site
        finally:
            site.calm()
