"""What commands write: text for whatever terminal there is, and data, which is UTF-8 on every one."""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    """Characters that its encoding does not have become backslash escapes; without any output there is a sink."""
    if sys.stdout is None:  # closed by who started us
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_data(data: bytes) -> None:
    """To standard output, beside `print`."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
