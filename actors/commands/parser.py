"""The command line: parses, loads the settings, hands over to the command.

Exit codes of every command: 0 done, 1 failed while running, 2 bad settings or usage.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from actors.commands import check, demo, export, leave, migrate, rejections, replay, run, simulate, status, token
from actors.commands.early_stop import hand_over, is_daemon
from actors.commands.run import Serve
from actors.commands.terminal import prepare
from actors.core.errors import SettingsError, TrackingError
from actors.settings.load import load
from actors.telemetry.log import to_stderr

DEFAULT_SETTINGS = Path(__file__).resolve().parent.parent.parent / "settings.ini"


def build() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = argparse.ArgumentParser(
        prog="supervisor.py", description="Real-time participant tracking: MQTT in; PostgreSQL, Redis, WebSocket out."
    )
    parser.add_argument("--settings", type=Path, default=DEFAULT_SETTINGS, metavar="PATH", help="default: %(default)s")
    parser.set_defaults(run=run.run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (run, demo, check, migrate, replay, simulate, token, export, rejections, status, leave):
        module.add(commands)
    return parser


def main(argv: Sequence[str], serve: Serve) -> int:
    """Run one command, `run` and `demo` with `serve`; returns its exit code."""
    if not is_daemon(argv):  # which hands over when it has ended
        hand_over()
    prepare()
    to_stderr()  # a daemon sets up its log itself, when it has its settings
    args = build().parse_args(argv, argparse.Namespace(serve=serve))
    try:
        settings = load(args.settings, os.environ)
    except SettingsError as bad:
        print(bad, file=sys.stderr)
        return 2
    try:
        code: int = args.run(args, settings)
        sys.stdout.flush()
    except TrackingError as failed:
        print(failed, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"cannot write: {error.strerror}", file=sys.stderr)
    else:
        return code
    return 1
