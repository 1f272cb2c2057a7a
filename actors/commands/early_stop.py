"""A signal in the first second, before anybody listens: Python would end by it, on Ctrl-C with a traceback.

Nothing but the standard library is imported here, so that supervisor.py can begin with it: all other imports take half
a second. Nothing was taken yet, so there is nothing to drain.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

DAEMONS = ("run", "demo")
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def is_daemon(argv: Sequence[str]) -> bool:
    """Whether these arguments run the daemon: it ends with 0 when it is told to stop."""
    words = [
        word for before, word in zip(("", *argv), argv, strict=False) if before != "--settings" and word[:1] != "-"
    ]
    return not words or words[0] in DAEMONS


def end_at_once(argv: Sequence[str]) -> None:
    """SIGTERM and SIGINT end this process, with one line and the exit code of its command, until `hand_over`."""
    code = 0 if is_daemon(argv) else 1

    def end(number: int, _frame: FrameType | None) -> None:
        os.write(sys.stderr.fileno(), b"stopped while starting\n" if code == 0 else b"interrupted\n")
        os._exit(code)

    for number in SIGNALS:
        # Who ignores SIGINT was started in the background of a shell.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def hand_over() -> None:
    """From here on both signals mean what they mean in any Python program."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
