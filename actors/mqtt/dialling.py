"""Dialling a node of the broker from a thread of the driver; names are resolved on the trio side."""

from __future__ import annotations

import socket
import ssl

import trio

from actors.core.addresses import Address as Node
from actors.mqtt.socket import CONNECT_TIMEOUT_S, Address, BufferedSocket, Wait, dial


def dial_node(node: Node, tls: ssl.SSLContext | None, wait: Wait) -> BufferedSocket:
    """Raises OSError or TooSlowError, or whatever `wait` raises. The caller closes it."""
    addresses = trio.from_thread.run(_resolve, node.host, node.port)
    return dial(addresses, node.host, tls, wait)


def why_not(error: OSError | trio.TooSlowError) -> str:
    """For people."""
    if isinstance(error, trio.TooSlowError):
        return f"the name server did not answer within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate: {error.verify_message}"
    return f"cannot connect: {error.strerror or error}"


async def _resolve(host: str, port: int) -> list[tuple[int, Address]]:
    """On the trio side, which can leave a name server that does not answer."""
    with trio.fail_after(CONNECT_TIMEOUT_S):
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _type, _proto, _name, address in found]
