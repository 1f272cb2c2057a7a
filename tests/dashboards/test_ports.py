"""Which sockets listen for which hosts. Loopback addresses of both families are needed."""

from __future__ import annotations

import socket

import pytest
import trio

from actors.core.errors import NotStarted
from actors.dashboards.ports import folded, open_ports


@pytest.mark.parametrize(
    ("addresses", "listening"),
    [
        (["127.0.0.1"], ["127.0.0.1"]),
        (["127.0.0.1", "::1", "127.0.0.1", "0:0:0:0:0:0:0:1"], ["127.0.0.1", "::1"]),
        (["::"], ["::", "0.0.0.0"]),
        (["0.0.0.0", "::"], ["::", "0.0.0.0"]),
        (["127.0.0.1", "::1", "::"], ["::", "0.0.0.0"]),
        (["127.0.0.1", "0.0.0.0", "::1"], ["0.0.0.0", "::1"]),
        (["::ffff:127.0.0.1", "127.0.0.1"], ["127.0.0.1"]),
        (["fe80::1%2", "fe80::1%3"], ["fe80::1%2", "fe80::1%3"]),
    ],
)
def test_no_address_collides_with_another(addresses: list[str], listening: list[str]) -> None:
    assert folded(addresses) == listening


def close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


@pytest.mark.parametrize(
    ("hosts", "reached"),
    [
        (("::",), {"127.0.0.1", "::1"}),
        (("0.0.0.0", "::"), {"127.0.0.1", "::1"}),
        (("0.0.0.0",), {"127.0.0.1"}),
        (("127.0.0.1", "::1"), {"127.0.0.1", "::1"}),
        (("::1", "127.0.0.2"), {"::1", "127.0.0.2"}),
        (("localhost", "127.0.0.1", "::1"), {"127.0.0.1", "::1"}),
    ],
)
async def test_every_host_is_served_on_the_same_port(hosts: tuple[str, ...], reached: set[str]) -> None:
    listeners = await open_ports(hosts, (0, 0))
    try:
        [port] = {listener.socket.getsockname()[1] for listener in listeners}
        found = set()
        for address in ("127.0.0.1", "127.0.0.2", "::1"):
            try:
                await (await trio.open_tcp_stream(address, port)).aclose()
            except OSError:
                continue
            found.add(address)
        assert found - ({"127.0.0.2"} if "127.0.0.2" not in hosts else set()) == reached
    finally:
        close(listeners)


@pytest.mark.parametrize("hosts", [("127.0.0.1", "::1"), ("::",), ("::1", "127.0.0.1")])
async def test_a_port_that_is_taken_on_one_address_is_named_and_nothing_listens(hosts: tuple[str, ...]) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        address = "::" if hosts == ("::",) else "::1"
        with pytest.raises(
            NotStarted, match=rf"^cannot listen on {address} port {port} \(Address already in use\): stop"
        ):
            await open_ports(hosts, (port,))
        with socket.create_server(("127.0.0.1", port)):
            pass


async def test_a_name_that_stands_for_nothing() -> None:
    with pytest.raises(NotStarted, match=r"^cannot listen on no\.such\.host\.invalid port 3000 \(.+\): set another"):
        await open_ports(("no.such.host.invalid",), (3000,))


async def test_a_host_that_is_not_ours() -> None:
    with pytest.raises(NotStarted, match=r"^cannot listen on 192\.0\.2\.1 port \d+ \(.*\): set another \[ws\] host$"):
        await open_ports(("127.0.0.1", "192.0.2.1"), (0,))
