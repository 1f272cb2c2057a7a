"""README.md's set-ups of two and of four machines, all of them this one, for names, paths and ports of a test."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from actors.core.addresses import PostgresAddress, Secret
from tests.kit.daemon import until
from tests.kit.postgres import postgres_binaries, run_as, start_postgres
from tests.kit.readme import block, replaced
from tests.kit.redis_servers import Watched
from tests.kit.servers import Server, free_port, mosquitto, redis_binary, running
from tests.kit.standby import WAITING, answers, sql
from tests.kit.tokens import SECRET
from tests.readme.production import Production

NODES = ("race1", "race2")
TRACKERS = ("press", "the trackers'")  # a login that may publish for everybody
REDIS_PASSWORD = "a-long-password"


@contextmanager
def broker(folder: Path) -> Iterator[Server]:
    """mosquitto as in production, with one login for all trackers."""
    folder.mkdir()
    site = Production(folder, mosquitto(folder, free_port()), free_port())
    site.write_broker()
    user, password = TRACKERS
    passwords = folder / "race-tracking.passwords"
    run_as(None, ["mosquitto_passwd", "-b", passwords, user, password], folder)
    acl = folder / "race-tracking.acl"
    acl.write_text(f"{acl.read_text()}user {user}\ntopic write tracking/+/position\n")
    with running(site.broker):
        yield site.broker


def write_node(folder: Path, name: str, port: int, *texts: str) -> Path:
    """Its settings.ini and the files that this names; what stands in a later text counts."""
    home = folder / name
    home.mkdir()
    secrets = {"mqtt": "the daemon's", "redis": REDIS_PASSWORD, "postgres": "change me"}
    files = {"auth_secret": SECRET} | {f"{server}_password": secret for server, secret in secrets.items()}
    for file_name, secret in files.items():
        (home / file_name).touch(0o600)
        (home / file_name).write_text(secret)
    merged = configparser.ConfigParser(interpolation=None)
    for text in texts:
        merged.read_string(text.replace("/etc/race-tracking", str(home)))
    for section in ("app", "ws"):
        merged[section]["port"] = str(port)
    merged["app"]["node_id"] = name
    with (home / "settings.ini").open("w") as file:
        merged.write(file)
    return home / "settings.ini"


def settings_of_two(broker: Server, redis: Server, postgres_port: int) -> str:
    """All servers are on race1."""
    return replaced(
        block("ini", "mqtt://race1:1883"),
        ("/var/lib/race-tracking", "var"),
        ("race1:1883", f"127.0.0.1:{broker.port}"),
        ("[redis]\nhost = race1\n", f"[redis]\nhost = 127.0.0.1:{redis.port}\n"),
        ("[postgres]\nhost = race1\n", f"[postgres]\nhost = 127.0.0.1:{postgres_port}\n"),
        ("127.0.0.1, race1", "127.0.0.1"),
    )


def settings_of_four(broker: Server, redis: Watched, postgres: PostgresOfTwo) -> tuple[str, str]:
    """Those of two, and what differs."""
    sentinels = [f"127.0.0.1:{each.port}" for each in redis.sentinels]
    differs = replaced(
        block("ini", "mqtt://db1:1883"),
        ("db1:1883", f"127.0.0.1:{broker.port}"),
        ("db1:26379, db2:26379, race1:26379", ", ".join(sentinels)),
        ("host = db1, db2", f"host = 127.0.0.1:{postgres.db1.port}, 127.0.0.1:{postgres.db2.port}"),
    )
    return settings_of_two(broker, redis.servers[0], postgres.db1.port), differs


@contextmanager
def redis_and_sentinels(folder: Path) -> Iterator[Watched]:
    """Redis of db1, its replica of db2, Sentinels of db1, db2 and race1."""
    with ExitStack() as stack:
        servers: list[Server] = []
        for name in ("db1", "db2"):
            home, port = folder / f"redis-{name}", free_port()
            text = replaced(block("conf", "replicaof"), ("127.0.0.1 10.0.0.3", "127.0.0.1"))
            primary = f"replicaof 127.0.0.1 {servers[0].port}\n" if servers else ""
            text = replaced(text, ("replicaof 10.0.0.3 6379\n", primary))
            # The first line is Debian's, the last one spares 5 s at every copy.
            text = f'port {port}\ndir {home}\nsave ""\n{text}repl-diskless-sync-delay 0\n'
            server = _of_a_file(home, port, "redis.conf", text)
            server.password = REDIS_PASSWORD
            servers.append(stack.enter_context(running(server)))
        sentinels = [stack.enter_context(_sentinel(folder / f"sentinel-{n}", servers[0])) for n in range(3)]
        site = Watched(servers, sentinels, "mymaster")
        site.until_known()
        yield site


@contextmanager
def _sentinel(home: Path, primary: Server) -> Iterator[Server]:
    port = free_port()
    text = replaced(
        block("conf", "sentinel monitor"),
        ("port 26379", f"port {port}"),
        ("127.0.0.1 10.0.0.3", "127.0.0.1"),
        ("/var/lib/redis", str(home)),
        ("10.0.0.3 6379", f"127.0.0.1 {primary.port}"),
    )
    with running(_of_a_file(home, port, "sentinel.conf", text, "--sentinel")) as server:
        yield server


def _of_a_file(home: Path, port: int, name: str, text: str, *args: str) -> Server:
    home.mkdir()
    (home / name).write_text(text)
    return Server(home, port, [str(redis_binary()), str(home / name), *args])


@attrs.define(eq=False)
class PostgresOfTwo:
    """PostgreSQL of db1 and of db2, whichever of them is the primary."""

    db1: Server
    db2: Server

    @property
    def address(self) -> PostgresAddress:
        """Of db2, for its superuser."""
        return PostgresAddress(self.db2.host, self.db2.port, "postgres", Secret(""), "tracking")

    def commits_waiting(self) -> bool:
        """On db2, for a standby."""
        return sql(self.db2, WAITING) != [(0,)]

    def copy(self, to: Server, of: Server) -> None:
        """Make one a standby of the other, from its data on, and wait until that is sent all."""
        shutil.rmtree(to.folder / "data", ignore_errors=True)
        (line,) = [line for line in block("sh", "pg_basebackup").splitlines() if "pg_basebackup" in line]
        line = replaced(
            line,
            ("sudo -u postgres pg_basebackup", str(postgres_binaries() / "pg_basebackup")),
            ("-h db1", f"-h 127.0.0.1 -p {of.port}"),
            ("/var/lib/postgresql/15/main", str(to.folder / "data")),
        )
        run_as(to.user, shlex.split(line), to.folder, PGPASSWORD="change me too")
        self.write_files(to)
        to.start()
        attached = f"select 1 from pg_stat_replication where application_name = '{self._name(to)}'"
        until(lambda: sql(of, f"{attached} and state = 'streaming'"), f"a standby: {to.log[-2000:]}")

    def write_files(self, server: Server) -> None:
        """Debian has them elsewhere, with the same include_dir."""
        conf = replaced(block("conf", "wal_keep_size"), ("localhost, 10.0.0.3", "127.0.0.1"))
        conf = replaced(conf, ("cluster_name = 'db1'", f"cluster_name = '{self._name(server)}'"))
        rights = replaced(block("conf", "host replication"), ("10.0.0.0/24", "127.0.0.1/32"))
        data = server.folder / "data"
        (data / "conf.d").mkdir(exist_ok=True)
        (data / "conf.d" / "race-tracking.conf").write_text(conf)
        (data / "pg_hba.conf").write_text(f"{rights}host all postgres 127.0.0.1/32 trust\n")
        with (data / "postgresql.conf").open("a") as file:
            file.write("include_dir 'conf.d'\n")
        if server.user is not None:
            for path in (data / "conf.d", data / "conf.d" / "race-tracking.conf", data / "pg_hba.conf"):
                os.chown(path, server.user.pw_uid, server.user.pw_gid)

    def _name(self, server: Server) -> str:
        return "db1" if server is self.db1 else "db2"


def run_sql(server: Server, holding: str) -> None:
    """The statements of the block with this text, one by one, as psql does."""
    for line in block("sql", holding).splitlines():
        if not line.startswith("--"):
            sql(server, line)


@contextmanager
def postgres_of_two_machines(folder: Path) -> Iterator[PostgresOfTwo]:
    """db1, and db2 as its synchronous standby; the daemon's role and database are made."""
    folder.mkdir()
    with start_postgres(folder) as db1:
        db1.stop()
        db1.argv = [word for word in db1.argv if not word.startswith("--listen_addresses")]
        db1.ready = answers
        home = db1.folder / "db2"
        home.mkdir()
        port = free_port()
        argv = [word.replace(str(db1.folder / "data"), str(home / "data")) for word in db1.argv]
        argv = [word.replace(f"--port={db1.port}", f"--port={port}") for word in argv]
        db2 = attrs.evolve(db1, folder=home, port=port, argv=argv, process=None)
        if db2.user is not None:
            os.chown(home, db2.user.pw_uid, db2.user.pw_gid)
        pair = PostgresOfTwo(db1, db2)
        pair.write_files(db1)
        db1.start()
        try:
            run_sql(db1, "-- One alone")
            run_sql(db1, "CREATE DATABASE")
            run_sql(db1, "CREATE ROLE replication")
            pair.copy(db2, of=db1)
            run_sql(db1, "-- Both")
            yield pair
        finally:
            db2.kill()
