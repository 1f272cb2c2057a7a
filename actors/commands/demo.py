"""`demo`: the daemon with a made-up race beside it, published over MQTT like any other, and a link to click."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from actors.commands import nodes
from actors.commands.run import Serve
from actors.commands.simulate import participant_count, simulate, wall_ms
from actors.core.addresses import in_url, is_loopback
from actors.data_dir import write_private
from actors.http.access import load_access
from actors.settings.load import Settings

RACE = "Demo-Trail"
PARTICIPANTS = 200
RATE_HZ = 0.5
"""Fixes a second of each participant."""
TOKEN_TTL_S = 24 * 3600
GOES_ON_MS = 180_000
"""After a shorter pause the race goes on. The page draws a trail across as much silence (GAP_MS in trails.js): were
everybody back at the start, their trails would all lead there, straight across the map."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("demo", help="run, plus a simulated race to look at")
    parser.add_argument(
        "--participants", type=participant_count, default=PARTICIPANTS, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="another number, another race; default: %(default)s"
    )
    parser.add_argument(
        "--nodes",
        type=int,
        choices=range(1, nodes.MOST + 1),
        default=1,
        metavar="N",
        help=f"so many nodes on this machine, 1 to {nodes.MOST}: the first reads, all show; default: %(default)s",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """As `run`; the race goes on until the daemon is stopped. With several nodes each is a process of its own."""
    if not settings.app.data_dir.exists():
        print("First start: setting up the servers, which takes a few seconds ...", flush=True)

    async def race() -> None:
        await publish_race(settings, args.participants, args.seed)

    if args.nodes > 1:
        return nodes.run(settings, args.nodes, dashboard_url, race)

    async def told_race() -> None:
        print(f"\nDashboard: {dashboard_url(settings)}\n\nStop with Ctrl-C.\n", flush=True)
        await race()

    serve: Serve = args.serve
    return serve(settings, beside=told_race)


async def publish_race(settings: Settings, participants: int, seed: int) -> None:
    """Until cancelled. Raises PublishFailed."""
    note = settings.app.data_dir / "demo"
    started_ms = start_of_race(note, seed, wall_ms())
    with contextlib.suppress(OSError):
        write_private(note, f"{started_ms} {seed}\n")
    try:
        await simulate(
            settings,
            participants=participants,
            rate_hz=RATE_HZ,
            duration_s=None,
            race_id=RACE,
            seed=seed,
            started_ms=started_ms,
        )
    finally:
        with contextlib.suppress(OSError):
            note.touch()


def start_of_race(note: Path, seed: int, now_ms: int) -> int:
    """Unix ms. `note` holds the start and the seed of the last demo, and was touched when that ended."""
    try:
        started_ms, last_seed = map(int, note.read_text("utf-8").split())
        ended_ms = note.stat().st_mtime_ns // 1_000_000
    except (OSError, ValueError):
        return now_ms
    goes_on = last_seed == seed and started_ms <= ended_ms <= now_ms < ended_ms + GOES_ON_MS
    return started_ms if goes_on else now_ms


def dashboard_url(settings: Settings) -> str:
    """With a token in the fragment, which browsers keep to themselves."""
    scheme = "https" if settings.tls.cert_file else "http"
    hosts = settings.ws.host
    here = any(host in ("0.0.0.0", "::", "localhost") for host in hosts)
    host = "127.0.0.1" if here else min(hosts, key=lambda name: not is_loopback(name))
    url = f"{scheme}://{in_url(host)}:{settings.app.port}/"
    if settings.ws.auth == "off":
        return url
    return f"{url}#token={load_access(settings).sign(None, TOKEN_TTL_S, time.time())}"
