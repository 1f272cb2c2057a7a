"""What the tests of `check` share: settings that fit any machine, and servers that say what a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors.commands import check, check_servers
from actors.commands.check_servers import Finding
from actors.core.addresses import PostgresAddress, RedisAddress
from actors.settings.load import Settings
from tests.kit.servers import free_port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The defaults, but embedded_bind is free whatever runs on this machine, and all dashboards have descriptors."""
    default = Settings()
    return attrs.evolve(
        default,
        app=attrs.evolve(default.app, data_dir=tmp_path / "var"),
        mqtt=attrs.evolve(default.mqtt, embedded_bind=f"127.0.0.1:{free_port()}"),
        ws=attrs.evolve(default.ws, max_connections=10, max_handshakes=10),
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is found out soon."""
    monkeypatch.setattr(check_servers, "ANSWER_S", 1)
    monkeypatch.setattr(check_servers, "CONNECT_S", 2)


def with_mqtt(settings: Settings, port: int, **changes: Any) -> Settings:
    given: dict[str, Any] = {"broker_url": f"mqtt://127.0.0.1:{port}", **changes}
    return attrs.evolve(settings, mqtt=attrs.evolve(settings.mqtt, **given))


def with_redis(settings: Settings, address: RedisAddress, **changes: Any) -> Settings:
    given: dict[str, Any] = {"host": address.host, "port": address.port, "password": address.password}
    return attrs.evolve(settings, redis=attrs.evolve(settings.redis, **(given | changes)))


def with_postgres(settings: Settings, address: PostgresAddress, **changes: Any) -> Settings:
    given: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "password": address.password,
        "database": address.database,
    }
    return attrs.evolve(settings, postgres=attrs.evolve(settings.postgres, **(given | changes)))


def about(settings: Settings, subject: str) -> list[Finding]:
    return [finding for finding in check.findings(settings) if finding.subject == subject]


def levels(settings: Settings, subject: str) -> list[str]:
    return [finding.level for finding in about(settings, subject)]


@contextmanager
def scripted(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that takes one connection, and ends it when the test ends; gives its port."""
    taken: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                taken.append(connection)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        if thread.is_alive():
            with suppress(OSError):
                taken[0].shutdown(socket.SHUT_RDWR)
        thread.join(20)
        assert not thread.is_alive()


def until_closed(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass
