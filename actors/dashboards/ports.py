"""The sockets that listen: every host of the settings on every port, each address once; the certificate for them."""

from __future__ import annotations

import errno
import ipaddress
import ssl
from collections.abc import Iterable, Sequence

import trio

from actors.core.errors import NotStarted
from actors.settings.load import TlsSettings

ADVICE = {
    errno.EADDRINUSE: "stop what uses it, or set other ports, [app] port and [ws] port (PORT=3001 WS_PORT=3001)",
    errno.EACCES: "set [app] port and [ws] port to 1024 or above (PORT=3001 WS_PORT=3001)",
}


def tls_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """None: nothing is encrypted. Raises NotStarted."""
    if settings.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        raise NotStarted(f"[tls] cert_file or key_file cannot be used: {error}") from error
    return context


async def open_ports(hosts: Sequence[str], ports: Sequence[int]) -> list[trio.SocketListener]:
    """Listen; port 0 is any free one, the same on all addresses. Raises NotStarted, and then nothing listens."""
    opened: list[trio.SocketListener] = []
    try:
        for port in dict.fromkeys(ports):
            number = port
            for address in folded([found for host in hosts for found in await _addresses(host, port)]):
                opened += await _listen(address, number)
                number = opened[-1].socket.getsockname()[1]
    except BaseException:
        for listener in opened:
            listener.socket.close()
        raise
    return opened


def folded(addresses: Iterable[str]) -> list[str]:
    """IP addresses without those that would collide: none twice, and none beside the wildcard of its family.

    `::` alone would serve IPv6 only, though who writes it means every address: it brings 0.0.0.0 with it.
    """
    found: dict[str, None] = {}
    for text in addresses:
        address = ipaddress.ip_address(text)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        found[str(mapped or address)] = None
    if "::" in found:
        return ["::", "0.0.0.0"]
    return [text for text in found if ":" in text or text == "0.0.0.0" or "0.0.0.0" not in found]


async def _addresses(host: str, port: int) -> list[str]:
    """What a name stands for. Raises NotStarted."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE)
    except OSError as error:
        raise _not_started(host, port, error) from error
    return [_text(*sockaddr) for *_, sockaddr in found]


def _text(address: str, _port: object, _flow: object = 0, scope_id: int = 0) -> str:
    return f"{address}%{scope_id}" if scope_id else address


async def _listen(address: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=address)
    except OSError as error:
        raise _not_started(address, port, error) from error


def _not_started(host: str, port: int, error: OSError) -> NotStarted:
    advice = ADVICE.get(error.errno or 0, "set another [ws] host")
    return NotStarted(f"cannot listen on {host} port {port} ({error.strerror or error}): {advice}")
