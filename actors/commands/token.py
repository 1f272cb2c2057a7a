"""`token`: prints a signed dashboard token."""

from __future__ import annotations

import argparse
import re
import time

from actors.commands.arguments import race_id
from actors.http.access import load_access
from actors.settings.load import Settings

UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_TTL_S = 3650 * UNIT_S["d"]


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "token",
        help="print a signed dashboard token",
        description="Prints a dashboard token, signed with [ws] auth_secret or the secret kept in data_dir.",
    )
    parser.add_argument(
        "--race", action="append", type=race_id, metavar="R", help="a race it allows, repeatable; none = all races"
    )
    parser.add_argument("--ttl", type=ttl_s, default="8h", metavar="T", help="such as 90s, 30m, 8h, 7d (default 8h)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the token to stdout: 0."""
    print(load_access(settings).sign(args.race, args.ttl, time.time()))
    return 0


def ttl_s(text: str) -> int:
    """`8h` in seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text, re.ASCII)
    seconds = int(match[1]) * UNIT_S[match[2]] if match else 0
    if not 0 < seconds <= MAX_TTL_S:
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration such as 90s, 30m, 8h or 7d, at most 3650d")
    return seconds
