"""Log set-up: one line an event to stderr, for a person (console) or a machine (json). Secrets never.

Libraries that use `logging` (trio-websocket, paho) are routed into it from WARNING on.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import attrs
import structlog

from actors.core.printable import printable
from actors.telemetry.log_writer import LogWriter

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_SECRET_KEYS = re.compile(r"password|passwd|secret|token$|authorization|cookie", re.IGNORECASE)
# What may stand inside of a text: a JWT, a token in a query, fragment, header or subprotocol, a password in a URL.
_SECRETS_IN_TEXT = (
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),
    (re.compile(r"(\btoken=|\bbearer(?:\.|\s+))[^\s&'\"]+", re.IGNORECASE), r"\1***"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*:)[^\s/@'\"]+@", re.IGNORECASE), r"\1***@"),
)

Event = MutableMapping[str, Any]
Render = Callable[["_Line", str, Event], str]


def set_up(format: str, level: str, stream: TextIO | None) -> LogWriter:
    """Send all logs to `stream` (None: nowhere), `format` "console" or "json", from `level` (a key of LEVELS) on.

    The last lines are written at exit; a caller that ends sooner closes the writer that is returned.
    """
    render = _json_line if format == "json" else _console(colors=stream is not None and stream.isatty())

    def say_dropped(count: int) -> str:
        event: Event = {"event": "log lines were lost because stderr did not take them", "lines": count}
        line = _Line(writer.write, "log")
        return finish(line, "warning", _stamp(line, "warning", event))

    writer = LogWriter(stream, say_dropped)
    atexit.register(writer.close)
    finish = _configure(render, level, writer.write)
    root = logging.getLogger()
    root.handlers = [_IntoStructlog(level=max(logging.WARNING, LEVELS[level]))]
    root.setLevel(logging.WARNING)
    return writer


def to_stderr() -> None:
    """For commands, which seldom have something to log: at once, to whatever stderr is then."""
    _configure(_console(colors=False), "info", lambda line: print(line, file=sys.stderr))


def _configure(render: Render, level: str, write: Callable[[str], None]) -> Render:
    def finish(logger: _Line, method: str, event: Event) -> str:
        return without_secrets(render(logger, method, event))

    structlog.configure(
        processors=[_stamp, _hide_secret_keys, finish],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda name="": _Line(write, name),
        # Loggers are made at import, before this runs; and tests set up more than once.
        cache_logger_on_first_use=False,
    )
    return finish


def without_secrets(text: str) -> str:
    """The text with tokens and passwords replaced by ***."""
    for pattern, replacement in _SECRETS_IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


@attrs.frozen
class _Line:
    """The end of structlog's chain: takes the rendered line."""

    write: Callable[[str], None]
    name: str

    def _write(self, line: str) -> None:
        self.write(line)

    debug = info = warning = error = critical = exception = msg = log = _write


class _IntoStructlog(logging.Handler):
    """Hands a record of the standard library to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit the format
            event = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger(record.name).log(level, event, exc_info=record.exc_info)


def _stamp(logger: _Line, method: str, event: Event) -> Event:
    """Time (UTC, ms), level and logger first; a traceback as text."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    level = "error" if method == "exception" else method
    stamped: Event = {"time": now, "level": level, "logger": logger.name, "event": event.pop("event", "")}
    stamped.update(event)
    exc_info = stamped.pop("exc_info", None)
    text = _traceback(exc_info)
    if text:
        stamped["exception"] = text
    return stamped


def _traceback(exc_info: object) -> str:
    """Of an exception, a triple of `sys.exc_info`, or True for the exception being handled. No locals: secrets."""
    if exc_info is True:
        exc_info = sys.exc_info()
    crash = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    return "".join(traceback.format_exception(crash)).rstrip() if isinstance(crash, BaseException) else ""


def _hide_secret_keys(_logger: _Line, _method: str, event: Event) -> Event:
    for key, value in event.items():
        if _SECRET_KEYS.search(key) and value:
            event[key] = "***"
    return event


def _json_line(_logger: _Line, _method: str, event: Mapping[str, Any]) -> str:
    return json.dumps(event, default=repr, skipkeys=True)


def _console(*, colors: bool) -> Render:
    renderer = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=40, timestamp_key="time")

    def line(logger: _Line, method: str, event: Event) -> str:
        exception = event.pop("exception", None)
        harmless = {key: _printable(value) for key, value in event.items()}
        rendered = str(renderer(logger, method, harmless))
        return rendered if exception is None else f"{rendered}\n{exception}"

    return line


def _printable(value: object) -> object:
    """Texts from outside must not begin a line that looks like ours."""
    return printable(value if isinstance(value, str) else repr(value))
