"""`demo`: the daemon with a made-up race beside it, published over MQTT like any other, and a link to click."""

from __future__ import annotations

import argparse
import time

from actors.access import Access, load_secret
from actors.commands.run import serve
from actors.commands.simulate import simulate
from actors.settings import Settings
from supervisor import Daemon

RACE = "Demo-Trail"
PARTICIPANTS = 200
RATE_HZ = 0.5
"""Fixes a second of each participant."""
TOKEN_TTL_S = 24 * 3600


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("demo", help="run, plus a simulated race to look at")
    parser.add_argument("--participants", type=int, default=PARTICIPANTS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="another number, another race; default: %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """As `run`; the race goes on until the daemon is stopped."""
    if not settings.app.data_dir.exists():
        print("First start: setting up the servers, which takes a few seconds ...", flush=True)

    async def race(daemon: Daemon) -> None:
        print(f"\nDashboard: {dashboard_url(settings)}\n\nStop with Ctrl-C.\n", flush=True)
        await simulate(
            settings,
            participants=args.participants,
            rate_hz=RATE_HZ,
            duration_s=float("inf"),
            race_id=RACE,
            seed=args.seed,
        )

    return serve(settings, beside=race)


def dashboard_url(settings: Settings) -> str:
    """With a token in the fragment, which browsers keep to themselves."""
    scheme = "https" if settings.tls.cert_file else "http"
    host = "127.0.0.1" if settings.ws.host in ("0.0.0.0", "::", "localhost") else settings.ws.host
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.app.port}/"
    if settings.ws.auth == "off":
        return url
    access = Access(load_secret(settings), True, settings.ws.cors_origin, settings.ws.cors_credentials)
    return f"{url}#token={access.sign(None, TOKEN_TTL_S, time.time())}"
