"""WebSocket: who may open one, and where; that either port serves both."""

from __future__ import annotations

import pytest

from tests.kit.outsider import LISTED, Place
from tests.kit.tokens import token

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("", 101),
        ("http://127.0.0.1:{port}", 101),
        (LISTED, 101),
        ("https://two.example", 403),
        ("https://one.example.evil.example", 403),
        ("http://one.example", 403),
        ("https://one.example:8443", 403),
        ("http://127.0.0.1:1", 403),
        ("null", 403),
        ("nonsense", 403),
    ],
)
async def test_origins_of_a_list(usual: Place, origin: str, status: int) -> None:
    answer = await usual.handshake(f"/tracking?token={token()}", origin=origin.format(port=usual.port))
    assert answer.status == status
    if status == 403:
        answer.error(403)


@pytest.mark.parametrize("origin", ["", "null", "https://two.example"])
async def test_any_origin(quick: Place, origin: str) -> None:
    assert (await quick.handshake(f"/tracking?token={token()}", origin=origin)).status == 101


async def test_other_paths_are_404(usual: Place) -> None:
    for path in ("/", "/other", "/tracking/", "/Tracking", "/api/races", "/metrics", "/trackingx"):
        (await usual.handshake(f"{path}?token={token()}")).error(404)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": "-"}, 400),
        ({"Sec-WebSocket-Key": "-"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Connection": "close", "Upgrade": "-"}, 426),
    ],
)
async def test_broken_handshakes(usual: Place, changed: dict[str, str], status: int) -> None:
    answer = await usual.handshake(f"/tracking?token={token()}", headers=changed)
    if status == 400 and changed == {"Sec-WebSocket-Version": "-"}:
        assert answer.status in (400, 426)  # RFC 6455 has both
    else:
        answer.error(status)
    if answer.status == 426:
        assert answer.headers["sec-websocket-version"] == "13"


async def test_two_ports_do_the_same(quick: Place) -> None:
    assert quick.port != quick.app_port
    for port in (quick.port, quick.app_port):
        assert (await quick.request("/healthz", port=port)).status == 200
        assert (await quick.request("/", port=port)).headers["content-type"].startswith("text/html")
        async with quick.dashboard(port=port) as board:
            assert await board.subscribe(quick.race()) == []
