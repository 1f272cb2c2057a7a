"""`run`: the daemon in the foreground, with real drivers, servers and ports."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

from actors.settings.load import Settings

log = structlog.get_logger("supervisor")


class Serve(Protocol):
    """supervisor.py's: commands are given it, because nothing imports that file."""

    def __call__(self, settings: Settings, beside: Callable[[], Awaitable[None]] | None = None) -> int:
        """Run the daemon until it is stopped; `beside` runs from when it serves until then.

        0 after a complete drain, 1 when the supervisor gave up or the drain was cut short. Raises NotStarted.
        """
        ...


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser("run", help="the daemon in the foreground, logs to stderr (the default)")
    parser.add_argument(
        "--until-eof",
        action="store_true",
        help="stop when standard input ends, too: for a program that starts nodes and must leave none behind",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """As Serve."""
    serve: Serve = args.serve
    # Where no command is named there are no options of it.
    return serve(settings, beside=_until_eof if getattr(args, "until_eof", False) else None)


async def _until_eof() -> None:
    """Then stop as if somebody had asked for it."""
    if sys.stdin is not None:  # closed by who started us
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
            async for _ in stream:
                pass
    log.info("standard input has ended")
    os.kill(os.getpid(), signal.SIGTERM)
