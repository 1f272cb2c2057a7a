"""The socket under paho: dialled without blocking for long, then read and written through two buffers.

Used by the driver's thread only, but for `tls_context`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from actors.settings.load import MqttSettings

READ_BYTES = 128 * 1024
"""Taken from the kernel at once."""

WRITE_BYTES = 256 * 1024
"""Held back for the kernel at most; beyond it paho is told to wait. Acknowledgements come on top of it, 4 bytes a
message that the broker has sent."""

CONNECT_TIMEOUT_S = 3.0
"""For TCP and TLS together, all addresses of the host."""

Wait: TypeAlias = Callable[[float, int, int], int]
"""(seconds, file number, poll events) -> events that are ready, 0 when none: it may return early, and it raises
when the driver has to stop."""

Address: TypeAlias = tuple[Any, ...]
"""As the socket module takes it: two items for IPv4, four for IPv6."""


class BufferedSocket:
    """What paho takes for a socket: `recv`, `send`, `fileno`, `setblocking`, `close` (its SocketLike).

    It lies between paho and the byte stream: its owner reads that by `receive`, and hands on what paho is to see.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._inward = b""  # for paho
        self._at = 0  # how much of _inward paho has taken
        self._outward = bytearray()
        self._blocked = False  # the kernel took less than it was offered
        self.heard = False  # something came since the owner last set this to False

    def receive(self) -> bytes:
        """What has come, b"" at the end. Raises BlockingIOError or ssl.SSLWantReadError when nothing has."""
        data = self._sock.recv(READ_BYTES)
        self.heard = True
        return data

    def pending(self) -> bool:
        """`receive` has something that poll() does not see."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def may_have_more(self, size: int) -> bool:
        """Whether to ask again where `receive` gave so much. Of TLS it gives one record, often of one message."""
        return size == READ_BYTES or isinstance(self._sock, ssl.SSLSocket)

    def readable(self) -> bool:
        """Something has come that was not received."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return self.pending() or bool(poll.poll(0))

    def hand_on(self, data: bytes) -> None:
        """Let paho `recv` these bytes."""
        self._inward = self._inward[self._at :] + data
        self._at = 0

    @property
    def handed_on(self) -> int:
        """Bytes that paho has not taken yet."""
        return len(self._inward) - self._at

    def recv(self, size: int) -> bytes:
        """For paho: at most `size` of the bytes handed on. Raises BlockingIOError when there are none."""
        at = self._at
        if at == len(self._inward):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self._at = min(at + size, len(self._inward))
        return self._inward[at : self._at]

    def add(self, packets: bytes) -> None:
        """Whole packets of ours, to be sent by `flush`."""
        self._outward += packets

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it, to be sent by `flush`. Raises BlockingIOError when too much waits already."""
        if len(self._outward) >= WRITE_BYTES:
            self.flush()
            if len(self._outward) >= WRITE_BYTES:
                raise BlockingIOError(errno.EAGAIN, "the broker does not read")
        self._outward += data
        return len(data)

    def flush(self) -> None:
        """Send what the kernel takes now. Raises OSError when the connection is gone."""
        self._blocked = False
        while self._outward:
            try:
                sent = self._sock.send(self._outward)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._blocked = True
                return
            except ssl.SSLWantReadError:  # TLS must hear first; the next turn tries again
                return
            del self._outward[:sent]

    @property
    def unsent(self) -> int:
        """Bytes that wait for `flush`."""
        return len(self._outward)

    @property
    def wants_write(self) -> bool:
        """Whether to wait until the kernel takes more."""
        return self._blocked

    def half_close(self) -> None:
        """Say that nothing more will be sent; what the other side sends can still be read."""
        self._sock.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """Throw away what has come; True at the end of the stream. Raises OSError as a socket does."""
        try:
            while self._sock.recv(READ_BYTES):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        return True

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Close at once; what was not flushed is lost. A second time is a no-op."""
        self._sock.close()


def dial(
    addresses: Iterable[tuple[int, Address]], server_name: str, tls: ssl.SSLContext | None, wait: Wait
) -> BufferedSocket:
    """Connect to the first of the addresses (family, address) that takes us, with TLS when a context is given.

    Raises OSError (TimeoutError and ssl.SSLError among them), or whatever `wait` raises.
    """
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    left = list(addresses)
    while left:
        family, address = left.pop(0)
        now = time.monotonic()
        share = now + (deadline - now) / (len(left) + 1)
        try:
            return BufferedSocket(_open(family, address, server_name, tls, share, wait))
        except OSError:
            if not left:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the host has no address")


def _open(
    family: int, address: Address, server_name: str, tls: ssl.SSLContext | None, deadline: float, wait: Wait
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            _await(sock, select.POLLOUT, deadline, wait)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if sock.getsockname() == sock.getpeername():  # a free port on this machine can meet itself half way
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
            _shake_hands(sock, deadline, wait)
    except BaseException:
        sock.close()
        raise
    return sock


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Checks the broker's certificate and its name, always. Without ca_file by the system's authorities.

    Raises OSError, of which ssl.SSLError is one, where a file cannot be used.
    """
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context


def _shake_hands(sock: ssl.SSLSocket, deadline: float, wait: Wait) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            _await(sock, select.POLLIN, deadline, wait)
        except ssl.SSLWantWriteError:
            _await(sock, select.POLLOUT, deadline, wait)
        else:
            return


def _await(sock: socket.socket, events: int, deadline: float, wait: Wait) -> None:
    while not wait(deadline - time.monotonic(), sock.fileno(), events):
        if time.monotonic() >= deadline:
            raise TimeoutError(errno.ETIMEDOUT, "no answer in time")
