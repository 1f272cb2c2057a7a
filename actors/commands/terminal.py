"""What commands write: text for whatever terminal there is, and data, which is UTF-8 on every one."""

from __future__ import annotations

import io
import sys


def escape_what_it_lacks() -> None:
    """From here on characters that the terminal's encoding does not have are written as backslash escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_data(data: bytes) -> None:
    """To standard output, beside `print`."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
