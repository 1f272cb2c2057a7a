"""PgBouncer in front of a PostgreSQL: `with start_pgbouncer(folder, address, "transaction") as pooler:`."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from actors.core.addresses import PostgresAddress
from actors.settings.load import Secret
from tests.kit.postgres import RUN_BY
from tests.kit.servers import Server, free_port, running

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
needs_pgbouncer = pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed: apt-get install pgbouncer")


@attrs.define(eq=False)
class Pooler:
    """Whoever connects to `address` gets a connection of the pool, without a password."""

    server: Server
    address: PostgresAddress
    admin: PostgresAddress  # its own console: simple queries only


@contextlib.contextmanager
def start_pgbouncer(folder: Path, behind: PostgresAddress, mode: str, **options: object) -> Iterator[Pooler]:
    """`mode`: session, transaction or statement; `options` are lines of its [pgbouncer] section."""
    assert BINARY
    # It refuses to run as root, and another user cannot enter `folder`.
    user = pwd.getpwnam(RUN_BY[-1]) if os.geteuid() == 0 else None
    home = folder if user is None else Path(tempfile.mkdtemp(prefix="tracking-test-pooler-", dir="/tmp"))
    try:
        port = free_port()
        lines = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any",
            "admin_users": "postgres", "pool_mode": mode, "server_login_retry": 1, **options,
        }  # fmt: skip
        password = behind.password.reveal().replace("'", "''")
        login = f"user={behind.user} password='{password}'" if password else f"user={behind.user}"
        config = home / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={behind.host} port={behind.port} {login}\n[pgbouncer]\n"
            + "".join(f"{key} = {value}\n" for key, value in lines.items())
        )
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
            os.chown(config, user.pw_uid, user.pw_gid)
        server = Server(home, port, [BINARY, str(config)], user, signal.SIGINT)
        address = attrs.evolve(behind, host="127.0.0.1", port=port, password=Secret(""))
        with running(server):
            yield Pooler(server, address, attrs.evolve(address, database="pgbouncer"))
    finally:
        if home != folder:
            shutil.rmtree(home)
