"""Log lines: what they hold, what they hide, and that stderr in any state stops nobody."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from actors.telemetry.log import set_up, to_stderr, without_secrets
from actors.telemetry.log_writer import MAX_LINE_BYTES, MAX_LINES, LogWriter

ROOT = Path(__file__).parents[2]
log = structlog.get_logger("reader")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is of the process: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def written(format: str, level: str, say: Callable[[], object]) -> str:
    stream = io.StringIO()
    writer = set_up(format, level, stream)
    say()
    writer.close()
    return stream.getvalue()


def json_lines(say: Callable[[], object], level: str = "info") -> list[dict[str, object]]:
    return [json.loads(line) for line in written("json", level, say).splitlines()]


def test_json_is_one_object_a_line_with_an_iso_time() -> None:
    (line,) = json_lines(lambda: log.info("took messages", count=3, path=Path("/x"), text='two\n"lines"'))
    assert list(line)[:4] == ["time", "level", "logger", "event"]
    assert (line["level"], line["logger"], line["event"]) == ("info", "reader", "took messages")
    assert (line["count"], line["path"], line["text"]) == (3, "PosixPath('/x')", 'two\n"lines"')
    assert str(line["time"]).endswith("Z")
    assert len(str(line["time"])) == len("2025-07-01T08:15:30.123Z")


def test_commands_log_to_stderr_and_print_only_data(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr()
    log.debug("details")
    log.warning("connection lost, trying again", reason="at\x1b[2J", password="hunter2")
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "[warning  ] connection lost, trying again" in err
    assert r"at\x1b[2J" in err
    assert "hunter2" not in err


def test_console_has_no_colours_but_on_a_terminal() -> None:
    assert "\x1b" not in written("console", "info", lambda: log.warning("component down", component="redis"))

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    writer = set_up("console", "info", stream)
    log.warning("component down", component="redis")
    writer.close()
    assert "\x1b[" in stream.getvalue()


def test_what_comes_from_outside_moves_no_cursor_and_begins_no_line() -> None:
    text = written("console", "info", lambda: log.info("seen\x1b[2J", race_id="R\x1b[31m\n2025 [error] forged"))
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text


def test_lone_surrogates_are_written_somehow() -> None:
    assert "\\ud800" in written("console", "info", lambda: log.info("seen", x="\ud800"))
    assert json_lines(lambda: log.info("seen", x="\ud800"))[0]["x"] == "\ud800"


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_kept(level: str, seen: int) -> None:
    def say() -> None:
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")

    assert len(json_lines(say, level)) == seen


def test_libraries_are_heard_from_warning_on() -> None:
    def say() -> None:
        logging.getLogger("trio-websocket").info("handshake")
        logging.getLogger("trio-websocket").warning("handshake %s", "failed")
        logging.getLogger("paho").warning("%d wrong", "argument")
        logging.getLogger("paho").critical("worst")

    lines = json_lines(say)
    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("trio-websocket", "warning", "handshake failed"),
        ("paho", "warning", "%d wrong"),
        ("paho", "critical", "worst"),
    ]


@pytest.mark.parametrize("format", ["json", "console"])
def test_tracebacks_are_whole_and_without_the_values_of_variables(format: str) -> None:
    def say() -> None:
        kept = "a value that is nobody's business"
        try:
            raise ValueError("why")
        except ValueError as error:
            log.exception("crashed")
            log.error("again", exc_info=error)
            logging.getLogger("x").exception("library")
        assert kept

    text = written(format, "info", say)
    assert text.count("ValueError: why") == 3
    assert "nobody's business\"" not in text.replace("kept = ", "")
    assert text.count("Traceback") == 3


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln_bmF0-dXJl"


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_never(format: str) -> None:
    def say() -> None:
        log.info("a", password="hunter2", auth_secret="hunter2", token="hunter2", Authorization="Bearer hunter2")
        log.info("b", url="mqtt://user:hunter2@broker:1883", target="/api/races?token=hunter2&x=1", jwt=JWT)
        log.info("subprotocol bearer.hunter2, header Bearer hunter2, token=hunter2")
        try:
            raise ValueError("postgresql://postgres:hunter2@db/tracking refused")
        except ValueError:
            log.exception("c", nested={"x": "amqp://a:hunter2@b"})

    text = written(format, "info", say)
    assert "hunter2" not in text
    assert JWT not in text
    assert "x=1" in text
    assert "postgres:***@db/tracking" in text


def test_ordinary_text_is_left_alone() -> None:
    for text in ("http://127.0.0.1:3000/#race", "tokens=3", "the bearer of news", "a@b.example: hello"):
        assert without_secrets(text).replace("bearer ***", "bearer of") == text


# --- stderr in trouble ---


def lost(count: int) -> str:
    return f"{count} lost"


def test_a_full_pipe_delays_nobody_and_is_told_when_it_flows_again() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        writer = LogWriter(stream, lost)
        line = "x" * 1000
        # A pipe takes 64 KiB; the queue takes MAX_LINES; the rest is lost, and none of this waits.
        for _ in range(MAX_LINES * 2):
            writer.write(line)
        dropped = writer.dropped
        assert 0 < dropped < MAX_LINES * 2
        received: list[bytes] = []
        through = threading.Event()

        def read() -> None:
            for got in reader:
                received.append(got)
                if received.count(line.encode() + b"\n") == MAX_LINES * 2 - dropped:
                    through.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert through.wait(30)  # a queue that is still full would drop the next one
        writer.write("after")
        writer.close(30)
        stream.close()
        thread.join(30)
    assert sum(int(got.split()[0]) for got in received if got.endswith(b" lost\n")) == dropped == writer.dropped
    assert received.count(line.encode() + b"\n") == MAX_LINES * 2 - dropped
    assert received[-1] == b"after\n"


def test_lost_lines_are_told_in_the_format_of_the_others() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        writer = set_up("json", "info", stream)
        for _ in range(MAX_LINES * 2):
            log.info("x" * 1000)
        received: list[dict[str, object]] = []
        thread = threading.Thread(target=lambda: received.extend(json.loads(line) for line in reader))
        thread.start()
        writer.close(10)
        stream.close()
        thread.join(10)
    told = [line for line in received if "lines" in line]
    assert {(line["level"], line["logger"]) for line in told} == {("warning", "log")}
    assert sum(int(str(line["lines"])) for line in told) == writer.dropped > 0
    assert len(received) - len(told) == MAX_LINES * 2 - writer.dropped


def test_a_reader_that_left_is_survived_and_counted() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        writer = LogWriter(stream, lost)
        writer.write("one")
        writer.write("two")
        writer.close(5)
        assert writer.dropped == 2


@pytest.mark.parametrize(("encoding", "seen"), [("latin-1", b"\xe9 \\u65e5\n"), ("ascii", b"\\xe9 \\u65e5\n")])
def test_a_terminal_without_the_characters_gets_escapes(encoding: str, seen: bytes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w", encoding=encoding) as stream:
        writer = LogWriter(stream, lost)
        writer.write("é 日")
        writer.close(10)
        assert reader.readline() == seen


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_no_stream_and_a_closed_one_are_survived_and_counted(stream: TextIO | None) -> None:
    if stream is not None:
        stream.close()
    writer = LogWriter(stream, lost)
    writer.write("one")
    writer.close(5)
    assert writer.dropped == 1


def test_a_descriptor_that_somebody_made_non_blocking_gets_every_line() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        writer = LogWriter(stream, lost)
        for _ in range(200):
            writer.write("x" * 999)
        received: list[bytes] = []
        thread = threading.Thread(target=lambda: received.append(reader.read(200_000)))
        thread.start()
        writer.close(10)
        thread.join(10)
    assert (len(received[0]), writer.dropped) == (200_000, 0)


def test_a_line_is_bounded() -> None:
    stream = io.StringIO()
    writer = LogWriter(stream, lost)
    writer.write("é" * MAX_LINE_BYTES)
    writer.close(5)
    assert len(stream.getvalue().encode()) <= MAX_LINE_BYTES + len(" ...\n")
    assert stream.getvalue().endswith("é ...\n")


SPEAK = """
import sys, structlog
from actors.telemetry.log import set_up
writer = set_up("json", "info", sys.stderr)
log = structlog.get_logger("x")
for _ in range(5000):
    log.info("y" * 500)
print("done", flush=True)
"""


@pytest.mark.parametrize("trouble", ["closed", "full", "never read"])
def test_a_process_ends_well_whatever_its_stderr_does(trouble: str) -> None:
    reading, writing = os.pipe()
    redirect = {"closed": "2>&-", "full": "2>/dev/full", "never read": ""}[trouble]
    command = f'exec "{sys.executable}" -c "$SPEAK" {redirect}'
    environment = {**os.environ, "SPEAK": SPEAK, "PYTHONPATH": str(ROOT)}
    try:
        ended = subprocess.run(
            ["/bin/sh", "-c", command], env=environment, stdout=subprocess.PIPE, stderr=writing, timeout=20
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (ended.returncode, ended.stdout) == (0, b"done\n")
