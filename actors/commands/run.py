"""`run`: the daemon in the foreground, with real drivers, servers and ports."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.settings.load import Settings


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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """As Serve."""
    serve: Serve = args.serve
    return serve(settings)
