"""TLS on the same port, and 'auth = off'."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.kit.certificate import CERTIFICATE
from tests.kit.commands import run_here
from tests.kit.daemon import write_settings
from tests.kit.outside_world import World
from tests.kit.outsider import LISTED, Place, fix, now_ms
from tests.kit.tokens import token

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def certificate(world: World) -> Path:
    file = world.folder / "certificate.pem"
    file.write_text(CERTIFICATE)
    return file


@pytest.fixture(scope="module")
def tls(world: World, certificate: Path) -> Place:
    return world.start(tls=certificate, ws={"cors_origin": ""})


@pytest.fixture(scope="module")
def auth_off(world: World) -> Place:
    return world.start(ws={"auth": "off"})


async def test_tls_for_page_api_and_dashboard(tls: Place) -> None:
    assert (await tls.request("/")).status == 200
    assert (await tls.request("/api/races", token=token())).json == {"races": []}
    target = f"/tracking?token={token()}"
    assert (await tls.handshake(target, origin=f"https://127.0.0.1:{tls.port}")).status == 101
    (await tls.handshake(target, origin=LISTED)).error(403)
    (await tls.handshake()).error(401)
    race = tls.race()
    async with tls.dashboard() as board:
        assert await board.subscribe(race) == []
        await tls.publish([fix(race, f"P{i}", now_ms()) for i in range(500)])
        told = 0
        while told < 500:  # in one window, or in two
            batch = await board.receive()
            assert batch["event"] == "batch_position_update"
            told += len(batch["data"]["positions"])
        assert told == 500
        assert len(await board.subscribe(race)) == 500


async def test_plain_text_to_a_tls_port_ends_only_itself(tls: Place) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", tls.port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with trio.fail_after(30):
            try:
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass  # a reset is an end too
    assert (await tls.request("/healthz")).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost", "[::1]:{port}", "127.8.8.8"])
async def test_without_auth_this_machine_needs_no_token(auth_off: Place, host: str) -> None:
    headers = {"Host": host.format(port=auth_off.port)}
    assert (await auth_off.handshake(headers=headers)).status == 101
    assert (await auth_off.handshake(headers=headers, origin="http://localhost:8080")).status == 101
    assert (await auth_off.request("/api/races", headers=headers)).json == {"races": []}
    assert (await auth_off.request("/api/rejections", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", ""),
        ("127.0.0.1.evil.example", ""),
        ("localhost.evil.example", ""),
        ("192.168.1.5", ""),
        ("localhost", "http://evil.example"),
        ("localhost", "http://localhost.evil.example"),
        ("localhost", "null"),
        ("evil.example", "http://localhost"),
    ],
)
async def test_without_auth_nobody_else(auth_off: Place, host: str, origin: str) -> None:
    (await auth_off.handshake(headers={"Host": host}, origin=origin)).error(403)
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    for path in ("/", "/healthz", "/api/races", "/metrics", "/nothing"):
        (await auth_off.request(path, headers=headers)).error(403)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_auth_off_is_refused_beyond_loopback(tmp_path: Path, host: str) -> None:
    settings = write_settings(tmp_path, {"ws": {"auth": "off", "host": host}})
    (done,) = run_here([["--settings", str(settings)]], check=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("settings.ini [ws] auth: value 'off': ")
