"""nginx, HAProxy and Caddy with README.md's files, for names, paths, ports and time-outs of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.kit.certificate import CERTIFICATE
from tests.kit.readme import block, replaced
from tests.kit.servers import free_port

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
MISSING = [name for name in ("nginx", "haproxy", "caddy", "curl") if shutil.which(name, path=PATH) is None]
needs_proxies = pytest.mark.skipif(bool(MISSING), reason=f"not installed: apt-get install {' '.join(MISSING)}")
TIMEOUT_S = 2  # of the proxies; above the heartbeat of the test's daemon


@attrs.define(eq=False)
class Proxy:
    """One that runs."""

    port: int
    folder: Path  # whatever it logs is in *.log

    @property
    def said(self) -> str:
        """All of its logs."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    async def get(self, *requests: str, http: str = "--http2") -> list[tuple[str, int]]:
        """(version, status) of each path, perhaps with headers behind it, on one connection of curl."""
        command = ["curl", "--silent", "--show-error", "--insecure", http]
        for number, request in enumerate(requests):
            path, *headers = request.split("\n")
            command += [] if number == 0 else ["--next", "--silent", "--insecure", http]
            command += [option for header in headers for option in ("--header", header)]
            command += ["--path-as-is", "--output", os.devnull, "--write-out", "%{http_version} %{http_code}\n"]
            command.append(f"https://127.0.0.1:{self.port}{path}")
        done = await trio.run_process(command, capture_stdout=True)
        answers = [line.split(" ") for line in done.stdout.decode().splitlines()]
        return [(version, int(status)) for version, status in answers]


def nginx(folder: Path, port: int, daemon: int, below: str = "") -> list[str]:
    """`below`: the prefix, such as /live, under which it serves what has none."""
    text = replaced(
        block("nginx", "upstream race_tracking"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("127.0.0.1:3000", f"127.0.0.1:{daemon}"),
        ("/etc/ssl/certs/race.example.org.pem", f"{folder}/certificate.pem"),
        ("/etc/ssl/private/race.example.org.key", f"{folder}/certificate.pem"),
        ("/var/log/nginx", str(folder)),
        ("proxy_read_timeout 60s", f"proxy_read_timeout {TIMEOUT_S}s"),
    )
    if below:
        start = text.index("    location / {")
        end = text.index("    }\n", start) + len("    }\n")
        place = text[start:end]
        stripped = replaced(place, ("location /", f"location {below}/"), ("race_tracking;", "race_tracking/;"))
        whole = replaced(place, ("location /", f"location = {below}/tracking"))
        text = text[:start] + stripped + whole + text[end:]
    (folder / "race-tracking.conf").write_text(text)
    temporary = "".join(
        f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\ndaemon off;\nworker_processes 1;\npid {folder}/pid;\n"
        f"error_log {folder}/error.log;\nevents {{}}\nhttp {{\n    access_log {folder}/access.log;\n{temporary}"
        f"    include {folder}/race-tracking.conf;\n}}\n"
    )
    return ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]


def nginx_below(folder: Path, port: int, daemon: int) -> list[str]:
    return nginx(folder, port, daemon, "/live")


def haproxy(folder: Path, port: int, daemon: int) -> list[str]:
    frontend, backend = block("haproxy", "frontend race_tracking").split("\n\n")
    backend = replaced(
        backend, ("127.0.0.1:3000", f"127.0.0.1:{daemon}"), ("timeout tunnel 60s", f"timeout tunnel {TIMEOUT_S}s")
    )
    return _haproxy(folder, port, frontend, backend, TIMEOUT_S, 0)


def haproxy_of_nodes(folder: Path, port: int, daemons: Sequence[int]) -> list[str]:
    """In front of several, with README's time-outs and Debian's."""
    names = [(f" race{number}:3000", f" 127.0.0.1:{daemon}") for number, daemon in enumerate(daemons, 1)]
    frontend, _ = block("haproxy", "frontend race_tracking").split("\n\n")
    return _haproxy(folder, port, frontend, replaced(block("haproxy", "option httpchk"), *names), 50, 3)


def _haproxy(folder: Path, port: int, frontend: str, backend: str, timeout_s: int, retries: int) -> list[str]:
    frontend = replaced(
        frontend,
        ("bind :::443 v4v6 ", f"bind 127.0.0.1:{port} "),
        ("/etc/haproxy/certs/race.example.org.pem", f"{folder}/certificate.pem"),
    )
    # As Debian's file, which has time-outs of 50 s and logs to the system's log.
    defaults = (
        "global\n    log stdout format raw local0\n\ndefaults\n    log global\n    mode http\n    option httplog\n"
        f"    retries {retries}\n    timeout connect 5s\n"
        f"    timeout client {timeout_s}s\n    timeout server {timeout_s}s\n\n"
    )
    (folder / "haproxy.cfg").write_text(f"{defaults}{frontend}\n\n{backend}")
    return ["haproxy", "-db", "-f", f"{folder}/haproxy.cfg"]


def caddy(folder: Path, port: int, daemon: int) -> list[str]:
    own = f"https://127.0.0.1:{port} {{\n    tls {folder}/certificate.pem {folder}/certificate.pem\n"
    text = replaced(
        block("caddyfile", "reverse_proxy"),
        ("race.example.org {\n", own),
        ("127.0.0.1:3000", f"127.0.0.1:{daemon}"),
        ("{\n    # Without", "{\n    admin off\n    auto_https disable_redirects\n    # Without"),
    )
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--config", f"{folder}/Caddyfile", "--adapter", "caddyfile"]


Made = Callable[[Path, int, int], list[str]]


@asynccontextmanager
async def running(make: Made, folder: Path, daemon: int) -> AsyncIterator[Proxy]:
    """It, in front of the daemon at this port of 127.0.0.1."""
    proxy = Proxy(free_port(), folder)
    (folder / "certificate.pem").write_text(CERTIFICATE)
    home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    environment = {**os.environ, **home, "PATH": PATH}
    with (folder / "output.log").open("wb") as output:
        process = await trio.lowlevel.open_process(
            make(folder, proxy.port, daemon), stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            await _until_it_listens(process, proxy)
            yield proxy
        finally:
            with trio.CancelScope(shield=True):
                process.terminate()
                with trio.move_on_after(10):
                    await process.wait()
                process.kill()
                await process.wait()


async def _until_it_listens(process: trio.Process, proxy: Proxy) -> None:
    with trio.fail_after(60):
        while True:
            assert process.poll() is None, proxy.said
            try:
                await (await trio.open_tcp_stream("127.0.0.1", proxy.port)).aclose()
            except OSError:
                await trio.sleep(0.05)
            else:
                return
