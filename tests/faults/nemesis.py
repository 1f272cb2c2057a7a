"""The nemesis: one fault after the other, often two at once, all chosen by a seed; writes down what it did when.

A fault is a context: it begins, lasts, and is over when its block ends. Faults of one part exclude each other.

The broker is killed only when it has saved what it acknowledged (`Site.kill_broker`): nothing at all may be lost.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from tests.faults.press import Press
from tests.faults.proxy import How, Proxy
from tests.faults.site import Daemon, OtherNode, Site
from tests.kit.daemon import until
from tests.kit.expected import now_ms
from tests.kit.metrics import conserved
from tests.kit.servers import Server

LASTS_S = (1.0, 1.0, 4.0)
"""One of these, or a part of it: short of what anybody notices, or long enough for keepalive and spool_after_s."""
APART_S = 0.5
BREAK_S = 0.5
DELAY_S = 0.05
OFFSET_BYTES = (3, 100, 5_000)
"""A cut is somewhere within one of these."""
SPRUNG_WITHIN_S = 1.0
"""Then the daemon is killed anyhow: other faults may keep the bytes from coming."""

Fault: TypeAlias = Callable[[], AbstractContextManager[None]]


@attrs.define(eq=False)
class Nemesis:
    """One thread: the test's own."""

    site: Site
    other: OtherNode
    database: Server
    press: Press
    seed: int
    done: list[dict[str, Any]] = attrs.field(factory=list)  # what, and when in Unix ms
    _rng: random.Random = attrs.field(init=False)
    _pack: list[tuple[str, str]] = attrs.field(factory=list)  # (part, name) of faults that are still to come

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def rage(self, for_s: float) -> None:
        """Faults for that long; all of them are over afterwards, and the daemon is ready."""
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            self._round()
            self._look()
        for daemon in (self.site.daemon, self.other.daemon):
            daemon.running.until_ready()

    def write_history(self, path: Path) -> None:
        path.write_text("".join(json.dumps(one) + "\n" for one in self.done))

    # --- choosing ---

    def _round(self) -> None:
        rng = self._rng
        parts = self._parts()
        with ExitStack() as over:
            for part, name in self._draw(rng.choice((1, 2, 2, 3))):
                self._note(f"{part}: {name}")
                over.enter_context(parts[part][name]())
                time.sleep(rng.uniform(0, APART_S))
            time.sleep(rng.uniform(0, rng.choice(LASTS_S)))
            self._note("over")
        self._note("healed")
        time.sleep(rng.uniform(0, BREAK_S))

    def _draw(self, count: int) -> list[tuple[str, str]]:
        """So many faults of different parts, off a shuffled pack of all of them: none twice before each was once."""
        drawn: dict[str, str] = {}
        while len(drawn) < count:
            if not self._pack:
                self._pack = [(part, name) for part, faults in self._parts().items() for name in faults]
                self._rng.shuffle(self._pack)
            nth = next((nth for nth, (part, _) in enumerate(self._pack) if part not in drawn), None)
            if nth is None:
                break  # what is left of the pack is for the next round
            part, name = self._pack.pop(nth)
            drawn[part] = name
        return list(drawn.items())

    def _parts(self) -> Mapping[str, Mapping[str, Fault]]:
        """Part -> name of a fault -> the fault."""
        site = self.site
        return {
            "daemon": {
                **_daemon(site.daemon),
                "SIGKILL at a byte": self._daemon_killed_at,
            },
            "other node": _daemon(self.other.daemon),
            "broker": _server(site.at.broker) | {"SIGKILL": self._broker_killed},
            "postgres": _server(self.database),
            "redis": _server(site.at.redis),
            "wire to the broker": self._wire(site.broker),
            "wire to postgres": self._wire(site.postgres),
            "wire to redis": self._wire(site.redis),
            "other node's wire to postgres": self._wire(self.other.postgres),
            "other node's wire to redis": self._wire(self.other.redis),
        }

    def _look(self) -> None:
        """What holds at every moment."""
        for daemon in (self.site.daemon, self.other.daemon):
            until(daemon.answers, "the daemon answers")
            assert conserved(daemon.running.metrics())

    def _note(self, what: str) -> None:
        self.done.append({"at": now_ms(), "what": what, "sent": len(self.press.sent)})

    # --- the daemon ---

    @contextmanager
    def _daemon_killed_at(self) -> Iterator[None]:
        """When so many more bytes of batches, their replies, messages or acknowledgements have come through."""
        proxy = self._rng.choice((self.site.broker, self.site.postgres))
        proxy.cut_after(**self._place(), how="hold").sprung.wait(SPRUNG_WITHIN_S)
        self.site.daemon.kill()
        proxy.reset()
        proxy.release()
        yield
        self.site.daemon.start(ready=False)

    # --- the broker ---

    @contextmanager
    def _broker_killed(self) -> Iterator[None]:
        self.site.kill_broker(self.press)
        yield
        self.site.at.broker.start()

    # --- the network ---

    def _wire(self, proxy: Proxy) -> Mapping[str, Fault]:
        return {
            "reset": lambda: self._reset(proxy),
            "cut": lambda: self._cut(proxy),
            "hole": lambda: self._hole(proxy),
            "refused": lambda: self._refused(proxy),
            "slow": lambda: self._slow(proxy),
        }

    @contextmanager
    def _reset(self, proxy: Proxy) -> Iterator[None]:
        proxy.reset()
        yield

    @contextmanager
    def _cut(self, proxy: Proxy) -> Iterator[None]:
        """At a byte; the end of a hole resets what fell into it."""
        hows: tuple[How, ...] = ("reset", "fin", "hole")
        proxy.cut_after(**self._place(), how=self._rng.choice(hows))
        yield
        proxy.release()
        proxy.black_hole(False)

    def _place(self) -> dict[str, int]:
        """Direction and offset of a cut."""
        place = {self._rng.choice(("to_server", "to_client")): self._rng.randrange(self._rng.choice(OFFSET_BYTES))}
        self._note(str(place))
        return place

    @contextmanager
    def _hole(self, proxy: Proxy) -> Iterator[None]:
        proxy.black_hole(True)
        yield
        proxy.black_hole(False)

    @contextmanager
    def _refused(self, proxy: Proxy) -> Iterator[None]:
        proxy.refuse(True)
        proxy.reset()
        yield
        proxy.refuse(False)

    @contextmanager
    def _slow(self, proxy: Proxy) -> Iterator[None]:
        proxy.delay_s = DELAY_S
        yield
        proxy.delay_s = 0.0


def _daemon(daemon: Daemon) -> dict[str, Fault]:
    def start() -> None:
        daemon.start(ready=False)

    def stop() -> None:
        """0, or 1 when the drain was cut short because of another fault: what was left is the broker's."""
        code = daemon.stop()
        assert code in (0, 1), code

    return {
        "SIGKILL": lambda: _away(daemon.kill, start),
        "SIGTERM": lambda: _away(stop, start),
        "SIGSTOP": lambda: _away(daemon.freeze, daemon.thaw),
    }


def _server(server: Server) -> dict[str, Fault]:
    return {
        "SIGKILL": lambda: _away(server.kill, server.start),
        "SIGTERM": lambda: _away(server.stop, server.start),
        "SIGSTOP": lambda: _away(server.sigstop, server.sigcont),
    }


@contextmanager
def _away(begin: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    begin()
    yield
    end()
