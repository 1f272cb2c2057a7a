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
from tests.faults.site import Site
from tests.live.expected import now_ms
from tests.live.station import conserved, until
from tests.servers import Server

LASTS_S = (0.2, 3.0)
BREAK_S = (0.0, 0.5)
DELAY_S = 0.05
OFFSET_BYTES = (3, 100, 5_000)
"""A cut is somewhere within one of these."""

Fault: TypeAlias = Callable[[], AbstractContextManager[None]]


@attrs.define(eq=False)
class Nemesis:
    """One thread: the test's own."""

    site: Site
    database: Server
    press: Press
    seed: int
    done: list[dict[str, Any]] = attrs.field(factory=list)  # what, and when in Unix ms
    _rng: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def rage(self, for_s: float) -> None:
        """Faults for that long; all of them are over afterwards, and the daemon is ready."""
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            self._round()
            self._look()
        self.site.at.ready(self.site.daemon.running)

    def write_history(self, path: Path) -> None:
        path.write_text("".join(json.dumps(one) + "\n" for one in self.done))

    # --- choosing ---

    def _round(self) -> None:
        rng = self._rng
        parts = self._parts()
        with ExitStack() as over:
            for part in rng.sample(sorted(parts), rng.choice((1, 1, 2, 3))):
                name = rng.choice(sorted(parts[part]))
                self._note(f"{part}: {name}")
                over.enter_context(parts[part][name]())
                time.sleep(rng.uniform(0, 0.5))
            time.sleep(rng.uniform(*LASTS_S))
            self._note("over")
        self._note("healed")
        time.sleep(rng.uniform(*BREAK_S))

    def _parts(self) -> Mapping[str, Mapping[str, Fault]]:
        """Part -> name of a fault -> the fault."""
        site = self.site
        return {
            "daemon": {"SIGKILL": self._daemon_killed, "SIGTERM": self._daemon_stopped, "SIGSTOP": self._daemon_frozen},
            "broker": _server(site.at.broker) | {"SIGKILL": self._broker_killed},
            "postgres": _server(self.database),
            "redis": _server(site.at.redis),
            "wire to the broker": self._wire(site.broker),
            "wire to postgres": self._wire(site.postgres),
            "wire to redis": self._wire(site.redis),
        }

    def _look(self) -> None:
        """What holds at every moment."""
        daemon = self.site.daemon
        until(daemon.answers, "the daemon answers")
        assert conserved(daemon.running.metrics())

    def _note(self, what: str) -> None:
        self.done.append({"at": now_ms(), "what": what, "sent": len(self.press.sent)})

    # --- the daemon ---

    @contextmanager
    def _daemon_killed(self) -> Iterator[None]:
        self.site.daemon.kill()
        yield
        self.site.daemon.start(ready=False)

    @contextmanager
    def _daemon_stopped(self) -> Iterator[None]:
        """0, or 1 when the drain was cut short because of another fault: what was left is the broker's."""
        code = self.site.daemon.stop()
        assert code in (0, 1), code
        yield
        self.site.daemon.start(ready=False)

    @contextmanager
    def _daemon_frozen(self) -> Iterator[None]:
        self.site.daemon.freeze()
        yield
        self.site.daemon.thaw()

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
        rng = self._rng
        hows: tuple[How, ...] = ("reset", "fin", "hole")
        way, offset, how = (
            rng.choice(("to_server", "to_client")),
            rng.randrange(rng.choice(OFFSET_BYTES)),
            rng.choice(hows),
        )
        self._note(f"{way} {offset} {how}")
        proxy.cut_after(**{way: offset}, how=how)
        yield
        proxy.release()
        proxy.black_hole(False)

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
