"""The same port with TLS."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
import trio
from trio_websocket import wrap_client_stream

from tests.dashboards import make_token, running_site, ws_settings

pytestmark = pytest.mark.live

# Self-signed for 127.0.0.1, until 2126; made by openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes.
CERTIFICATE = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOrhMMQy6vQRyTjph
JvJ2+v/KnJm1G9CnVXgWiivvVk+hRANCAATTguiDCpjNaQT3P51ulIXi0zTGvWSF
rOrG5TtdnSvQR+lrXW9enlom7oxWf6PWK3hwrmRgQ+67nJKQ+Po1pHaG
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBjzCCATagAwIBAgIUfod3SsClej4dBPwLNCxdtALVOUgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyMzIwNTgxNVoYDzIxMjYxMDMw
MjA1ODE1WjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATTguiDCpjNaQT3P51ulIXi0zTGvWSFrOrG5TtdnSvQR+lrXW9enlom
7oxWf6PWK3hwrmRgQ+67nJKQ+Po1pHaGo2QwYjAdBgNVHQ4EFgQUBeEJQFmInry4
MlCgcG2e/5v6R08wHwYDVR0jBBgwFoAUBeEJQFmInry4MlCgcG2e/5v6R08wDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0cAMEQC
IAukxjSTpDP4miAvowoMX8xwI2fFmgNwjSF2JDwtljqmAiAbAZa5wmXYsgtxHh58
cJ+au8l3mhJyP8rj6qI8rCnMjw==
-----END CERTIFICATE-----
"""


def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server, for the client."""
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=file)


async def test_a_dashboard_over_tls(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with running_site(tmp_path, server_tls=server) as site, trio.open_nursery() as nursery:
        site.races.positions = b'"' + b"x" * 300_000 + b'"'
        async with trio.SSLStream(await site.raw(), client, server_hostname="127.0.0.1") as stream:
            path = f"/tracking?token={make_token()}"
            connection = await wrap_client_stream(nursery, stream, "127.0.0.1", path)
            await connection.send_message('{"event": "subscribe_race", "data": {"raceId": "R1"}}')
            with trio.fail_after(5):
                snapshot = json.loads(await connection.get_message())
                assert len(snapshot["data"]["positions"][0]) == 300_000
                site.races.change("R1")
                assert json.loads(await connection.get_message())["event"] == "position_update"
            await connection.aclose()
        nursery.cancel_scope.cancel()


async def test_a_refusal_over_tls(tmp_path: Path) -> None:
    server, client = contexts(tmp_path)
    async with running_site(tmp_path, server_tls=server) as site:
        raw = await site.raw()
        async with trio.SSLStream(raw, client, server_hostname="127.0.0.1", https_compatible=True) as stream:
            await stream.send_all(b"GET /tracking HTTP/1.1\r\nHost: a\r\n\r\n")
            with trio.fail_after(5):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\x00", bytes(5000)])
async def test_who_does_not_speak_tls_ends_only_itself(tmp_path: Path, sent: bytes) -> None:
    server, client = contexts(tmp_path)
    async with running_site(tmp_path, ws_settings(handshake_timeout_s=1), server_tls=server) as site:
        async with await site.raw() as stream:
            await stream.send_all(sent)
            with trio.fail_after(5):
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass  # as good as the end
        assert site.dropped("crash") == 0
        async with trio.SSLStream(await site.raw(), client, server_hostname="127.0.0.1") as good:
            with trio.fail_after(5):
                await good.do_handshake()
