"""RabbitMQ and NATS for tests, alone and as three nodes, with the files of README.md but for names, paths and ports."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from actors.embedded.nats import find_binary
from tests.kit.readme import README, block, replaced
from tests.kit.servers import Server, free_port, running

DAEMON = ("tracking-backend", "a long password")
TRACKER = ("P001", "the password of P001")
"""The one of README.md; in tests it may publish for everybody."""
RABBITMQ = Path("/usr/lib/rabbitmq/bin")
"""Debian's programs in PATH want to be another user, who cannot enter a test's folder."""


@contextmanager
def start_nats(folder: Path, *pairs: tuple[str, str]) -> Iterator[Server]:
    """One server; of each pair the second text stands in its file instead of the first."""
    with running(_nats(folder, "race-tracking", "", *pairs)) as server:
        yield server


@contextmanager
def start_nats_cluster(folder: Path) -> Iterator[list[Server]]:
    """Three, everything on each of them."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        nodes = []
        for number, port in enumerate(ports):
            name = f"node-{number}"
            (folder / name).mkdir()
            more = f"cluster {{ name: tracking, listen: 127.0.0.1:{port}, routes: [{routes}] }}\n"
            node = _nats(
                folder / name, name, more, ("mqtt {\n", "mqtt {\n  stream_replicas: 3, consumer_replicas: 3\n")
            )
            nodes.append(stack.enter_context(running(node)))
        yield nodes


def _nats(folder: Path, name: str, more: str = "", *pairs: tuple[str, str]) -> Server:
    binary = find_binary()
    assert binary is not None
    port = free_port()
    config = folder / "nats-server.conf"
    config.write_text(
        more
        + replaced(
            block("conf", "max_ack_pending"),
            ("race-tracking", name),
            ("127.0.0.1:4222", "127.0.0.1:-1"),
            ("/var/lib/nats", str(folder)),
            ('publish: ["tracking.P001.position"]', 'publish: ["tracking.*.position"]'),
            ("127.0.0.1:1883", f"127.0.0.1:{port}"),
            *pairs,
        )
    )
    return Server(folder, port, [str(binary), "-c", str(config)])


@attrs.frozen
class Erlang:
    """What the nodes of one test share: a folder that is their home, for the cookie, and an epmd of their own."""

    folder: Path
    epmd: int  # its port

    def env(self, node: str, distribution: int = 0) -> dict[str, str]:
        """For a node and for its tools; `distribution` is the port at which other nodes reach it."""
        home = self.folder / node
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{node}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the node itself gets the signals, no shell in front of it
        }

    def node(self, name: str, *lines: str) -> Server:
        """Not started; `lines` go beside README.md's."""
        home = self.folder / name
        home.mkdir()
        port = free_port()
        conf = replaced(block("conf", "mqtt.prefetch"), ("127.0.0.1:1883", f"127.0.0.1:{port}"))
        (home / "rabbitmq.conf").write_text("\n".join([conf, "listeners.tcp = none", "log.console = true", *lines, ""]))
        (home / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        return Server(home, port, [str(RABBITMQ / "rabbitmq-server")], env=self.env(name, free_port()))

    def users(self, node: str) -> None:
        """Those of README.md, by its commands."""
        for line in re.findall(r"^    (rabbitmqctl .*)$", README, re.MULTILINE):
            argv = shlex.split(line.replace(r"{username}\.position", r"[^.]+\.position"))
            argv[0] = str(RABBITMQ / argv[0])
            done = subprocess.run(argv, env=os.environ | self.env(node), capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)


@contextmanager
def start_rabbitmq(folder: Path) -> Iterator[Server]:
    """One node."""
    with start_rabbitmq_cluster(folder, ["alone"]) as (server,):
        yield server


@contextmanager
def start_rabbitmq_cluster(folder: Path, names: Sequence[str] = ("first", "second", "third")) -> Iterator[list[Server]]:
    """These nodes, as one."""
    assert RABBITMQ.exists(), "RabbitMQ is not installed: apt-get install rabbitmq-server"
    port = free_port()
    epmd = Server(folder, port, ["epmd", "-port", str(port), "-address", "127.0.0.1"])
    erlang = Erlang(folder, port)
    lines = ["cluster_formation.peer_discovery_backend = classic_config"]
    lines += [f"cluster_formation.classic_config.nodes.{index} = {name}@localhost" for index, name in enumerate(names)]
    with ExitStack() as stack:
        stack.enter_context(running(epmd))
        # One after the other: side by side each might found a cluster of its own.
        nodes = [stack.enter_context(running(erlang.node(name, *lines))) for name in names]
        erlang.users(names[0])
        yield nodes
