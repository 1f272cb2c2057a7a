"""A TCP proxy in front of one server, for faults of the network: on a thread of its own, told what to do by the test.

What it does to a connection is what a network can do: bytes are late, or the connection ends, or nothing comes through
any more. A connection that lost bytes in a black hole never goes on afterwards: it is reset when the hole closes.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import attrs
import trio

CHUNK = 65_536
WITHIN_S = 30.0
SETTLE_S = 0.02
"""Between the last byte and the end of a connection: a reset would overtake what the receiver has not read."""

How = Literal["reset", "fin", "hole", "hold"]
Way = Literal["server", "client"]  # where the bytes go to


@attrs.define(eq=False)
class Trap:
    """Springs once: at a byte offset of one direction, or at the first chunk that contains a pattern."""

    way: Way
    how: How
    left: int = 0  # bytes that still pass
    pattern: bytes = b""  # empty: by offset
    claimed: bool = False  # by the connection that it works on
    sprung: threading.Event = attrs.field(factory=threading.Event)
    released: trio.Event = attrs.field(factory=trio.Event)

    def claim(self, data: bytes) -> int | None:
        """How much of a chunk still goes through before it springs; None: it does not spring at this one."""
        if self.claimed:
            return None
        if self.pattern:
            passing = 0
            self.claimed = self.pattern in data
        else:
            passing = min(self.left, len(data))
            self.left -= passing
            self.claimed = self.left == 0
        return passing if self.claimed else None

    def wait(self, within_s: float = WITHIN_S) -> None:
        """Until it has sprung."""
        assert self.sprung.wait(within_s), f"nothing sprang the trap {self}"


@attrs.define(eq=False)
class Link:
    """One connection through the proxy."""

    client: trio.socket.SocketType
    server: trio.socket.SocketType | None = None  # None in a hole
    swallowing: bool = False  # bytes were lost: nothing comes through any more

    def end(self, how: How) -> None:
        """Close both sides at once, with RST or FIN."""
        for sock in filter(None, (self.client, self.server)):
            if how == "reset":
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


@attrs.define(eq=False)
class Proxy:
    """Made by `proxy_to`; every method is for the test's thread."""

    server_port: int
    server: str = "127.0.0.1"
    listens: str = "127.0.0.1"
    port: int = 0  # where it listens
    delay_s: float = 0.0  # each chunk waits this long
    accepted: int = 0  # connections so far
    _links: set[Link] = attrs.field(factory=set)
    _trap: Trap | None = None
    _hole: bool = False
    _refusing: bool = False
    _token: trio.lowlevel.TrioToken | None = None
    _ended: trio.Event | None = None
    _nursery: trio.Nursery | None = None

    @property
    def connections(self) -> int:
        """Open now, swallowed ones among them."""
        return len(self._links)

    def reset(self) -> None:
        """RST to both sides of every connection."""
        self._do(lambda: self._end_links(lambda link: True))

    def black_hole(self, on: bool) -> None:
        """Swallow everything both ways, of new connections too. Off: those that lost something are reset."""
        self._hole = on
        if not on:
            self._do(lambda: self._end_links(lambda link: link.swallowing))

    def refuse(self, on: bool) -> None:
        """Reset new connections at once."""
        self._refusing = on

    def cut_after(self, *, to_server: int | None = None, to_client: int | None = None, how: How = "reset") -> Trap:
        """Let that many more bytes through in one direction, over all connections, then cut the one they end in."""
        assert (to_server is None) != (to_client is None)
        if to_server is not None:
            return self._arm(Trap("server", how, to_server))
        assert to_client is not None
        return self._arm(Trap("client", how, to_client))

    def drop_reply(self, pattern: bytes) -> Trap:
        """Swallow the next chunk to the client that contains the pattern, and reset its connection."""
        return self._arm(Trap("client", "reset", pattern=pattern))

    def hold(self, way: Way, pattern: bytes) -> Trap:
        """Keep the next chunk that contains the pattern, and all that follows it in that direction, until `release`."""
        return self._arm(Trap(way, "hold", pattern=pattern))

    def release(self) -> None:
        """Disarm; what is held goes on."""
        trap, self._trap = self._trap, None
        if trap is not None:
            self._do(trap.released.set)

    def _arm(self, trap: Trap) -> Trap:
        self._trap = trap
        return trap

    def _do(self, what: Callable[[], object]) -> None:
        """In the thread, and done when this returns."""
        assert self._token is not None
        done = threading.Event()

        def do() -> None:
            what()
            done.set()

        self._token.run_sync_soon(do)
        assert done.wait(WITHIN_S)

    # --- the thread ---

    async def _run(self, started: threading.Event) -> None:
        self._token, self._ended = trio.lowlevel.current_trio_token(), trio.Event()
        listener = trio.socket.socket()
        with listener:
            await listener.bind((self.listens, 0))
            self.port = listener.getsockname()[1]
            listener.listen(1000)
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._accept, listener)
                started.set()
                await self._ended.wait()
                self._nursery.cancel_scope.cancel()
        self._end_links(lambda link: True)

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        assert self._nursery is not None
        while True:
            client, _ = await listener.accept()
            self.accepted += 1
            link = Link(client)
            if self._refusing:
                link.end("reset")
            else:
                self._links.add(link)
                self._nursery.start_soon(self._serve, link)

    async def _serve(self, link: Link) -> None:
        """Both directions of one connection, until both ended or one was reset."""
        try:
            if self._hole:
                link.swallowing = True
            else:
                link.server = trio.socket.socket()
                await link.server.connect((self.server, self.server_port))
                link.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with trio.open_nursery() as both:
                both.start_soon(self._pump, link, link.client, "server")
                if link.server is not None:
                    both.start_soon(self._pump, link, link.server, "client")
            if not link.swallowing:
                self._end(link, "fin")
        except* (OSError, trio.ClosedResourceError):
            if not link.swallowing:
                self._end(link, "reset")

    async def _pump(self, link: Link, source: trio.socket.SocketType, way: Way) -> None:
        while data := await source.recv(CHUNK):
            if self.delay_s:
                await trio.sleep(self.delay_s)
            if self._hole or link.swallowing:
                link.swallowing = True
            else:
                await self._pass(link, data, way)
        if not link.swallowing and not self._hole:
            _sink(link, way).shutdown(socket.SHUT_WR)
        else:
            link.swallowing = True  # the other side is not told

    async def _pass(self, link: Link, data: bytes, way: Way) -> None:
        trap = self._trap
        passing = trap.claim(data) if trap is not None and trap.way == way else None
        if trap is None or passing is None:
            await _send(_sink(link, way), data)
            return
        await _send(_sink(link, way), data[:passing])
        if trap.how == "hole":
            link.swallowing = True
        elif trap.how != "hold":
            await trio.sleep(SETTLE_S)
            self._end(link, trap.how)
        trap.sprung.set()
        if trap.how == "hold":
            await trap.released.wait()
            await _send(_sink(link, way), data[passing:])

    def _end_links(self, which: Callable[[Link], bool]) -> None:
        for link in filter(which, tuple(self._links)):
            self._end(link, "reset")

    def _end(self, link: Link, how: How) -> None:
        self._links.discard(link)
        link.end(how)


def _sink(link: Link, way: Way) -> trio.socket.SocketType:
    if way == "client":
        return link.client
    assert link.server is not None
    return link.server


async def _send(sock: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await sock.send(data) :]


@contextmanager
def proxy_to(server_port: int, server: str = "127.0.0.1", listens: str = "127.0.0.1") -> Iterator[Proxy]:
    """A proxy to that port, whether or not somebody listens there; its own port stays the same."""
    proxy, started = Proxy(server_port, server, listens), threading.Event()
    thread = threading.Thread(target=trio.run, args=(proxy._run, started), daemon=True)
    thread.start()
    assert started.wait(WITHIN_S)
    try:
        yield proxy
    finally:
        assert proxy._ended is not None
        proxy._do(proxy._ended.set)
        thread.join(WITHIN_S)
