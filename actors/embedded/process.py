"""Child processes that must not outlive their daemon for long: in a session of their own, recorded on disk.

A session of their own, so that Ctrl-C in a terminal does not end them before the drain. No PR_SET_PDEATHSIG: it fires
when the starting thread ends. So a daemon that is killed leaves them behind, and the next start ends them. Each child
writes its own record before it becomes the server, so there is no moment at which one runs without a record; it holds
pid, start time and boot, which no other process shares (proc(5): /proc/pid/stat field 22), so nobody else is signalled.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import structlog
import trio

from actors.core.errors import NotStarted

log = structlog.get_logger("embedded")

POLL_S = 0.05
KILL_S = 10.0
LEFTOVER_S = 10.0  # for a server that an earlier daemon left
LOG_TAIL_LINES = 12
LOG_BYTES = 10 * 1024 * 1024  # at a start a longer log is put aside, in the place of the one before it
RECORD = ".pid"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STRAYS = {
    "postgres": signal.SIGINT,
    "initdb": signal.SIGKILL,  # to its group; what it made is made again
    "mosquitto": signal.SIGTERM,
    "valkey-server": signal.SIGTERM,
    "nats-server": signal.SIGTERM,
}
"""Program -> how to end one that has no record."""
THEN_BECOME_IT = 'read -r me </proc/$$/stat; echo "$me" >&0; exec "$0" "$@" </dev/null'
"""Of sh, whose stdin is the record: pid and start time stay the same over exec."""


@attrs.frozen
class Plan:
    """How to run one server."""

    name: str
    argv: Sequence[str]
    folder: Path  # its working folder
    data_dir: Path  # holds its log and its record: ours alone, whatever user it runs as
    stop_signal: signal.Signals
    user: int | None = None  # uid and gid to run as; None = ours
    group: int | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    @property
    def log(self) -> Path:
        """stdout and stderr are appended to it."""
        return self.data_dir / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """First line: boot and the number of the stop signal; second line: /proc/pid/stat when it started."""
        return self.data_dir / f"{self.name}{RECORD}"


@attrs.define(eq=False)
class Running:
    """A started child."""

    plan: Plan
    process: trio.Process

    @property
    def ended(self) -> bool:
        """It is gone, whoever ended it."""
        return self.process.poll() is not None

    async def stop(self, patience_s: float) -> None:
        """Ask, then kill."""
        await end(self.process.pid, self.plan.stop_signal, patience_s, lambda: self.ended)
        await self.process.wait()
        self.plan.record.unlink(missing_ok=True)

    def why(self) -> str:
        """The end of its log, for the operator."""
        return tail(self.plan.log)


async def start(plan: Plan) -> Running:
    """Start it; `end_leftovers` came before. Raises NotStarted."""
    try:
        plan.record.unlink(missing_ok=True)
        with _open(plan.record, os.O_EXCL) as record, open_log(plan.log) as output:
            record.write(f"{_boot()} {plan.stop_signal:d}\n".encode())
            record.flush()
            process = await trio.lowlevel.open_process(
                ["/bin/sh", "-c", THEN_BECOME_IT, *plan.argv],
                stdin=record,
                stdout=output,
                stderr=output,
                cwd=plan.folder,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **plan.env},
                start_new_session=True,
                user=plan.user,
                group=plan.group,
                extra_groups=None if plan.user is None else [],
            )
    except OSError as error:
        raise NotStarted(f"embedded {plan.name} cannot be started: {error}") from error
    return Running(plan, process)


async def end_leftovers(data_dir: Path, *others: Path) -> None:
    """End every server that a killed daemon left behind. Call it with data_dir locked. Raises NotStarted.

    Those on record first; then those whose record is lost, known by a command line that names a path in data_dir or
    in one of the `others`, the daemon's own folders outside of it.
    """
    async with trio.open_nursery() as nursery:
        for record in _records(data_dir):
            nursery.start_soon(_end_leftover, record)
    async with trio.open_nursery() as nursery:
        for pid, program in _strays((data_dir, *others)):
            nursery.start_soon(_end_stray, pid, program)


@attrs.frozen
class _Record:
    """Of a server that an earlier daemon started."""

    path: Path
    boot: str
    stop_signal: str
    pid: str
    started: str  # clock ticks after boot; empty when the daemon was killed before the server came to be

    @property
    def gone(self) -> bool:
        """No process has both this pid and this start time."""
        told = self.boot == _boot() and self.stop_signal.isdecimal() and self.pid.isdecimal() and self.started
        return not told or start_ticks(int(self.pid)) != self.started


def _records(data_dir: Path) -> list[_Record]:
    found = []
    for path in sorted(data_dir.glob(f"*{RECORD}")):
        head, _, stat = path.read_text("utf-8", "replace").partition("\n")
        boot, _, number = head.partition(" ")
        found.append(_Record(path, boot, number, stat.partition(" ")[0], _start_ticks(stat)))
    return found


async def _end_leftover(left: _Record) -> None:
    if not left.gone:
        log.warning("ending a server that a killed daemon left behind", server=left.path.stem, pid=left.pid)
        await end(int(left.pid), signal.Signals(int(left.stop_signal)), LEFTOVER_S, lambda: left.gone)
    if not left.gone:
        raise NotStarted(f"process {left.pid}, which a killed daemon left behind, does not end: end it by hand")
    os.unlink(left.path)


def _strays(folders: Sequence[Path]) -> list[tuple[int, str]]:
    """(pid, program) of our servers that work in these folders; of this container only, and only those of ours."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = os.fsdecode((process / "cmdline").read_bytes()).rstrip("\0").split("\0")
            pids = re.search(r"^NSpid:(.*)", (process / "status").read_text("utf-8", "replace"), re.MULTILINE)
            owner = process.stat().st_uid
        except (FileNotFoundError, ProcessLookupError):
            continue
        program = Path(argv[0].partition(" ")[0]).name
        # Valkey's title is one string: "... unixsocket:/path".
        named = any(arg.startswith(f"{at}/") or f":{at}/" in arg for at in folders for arg in argv)
        # In a container of its own the same path is another folder; such a process has a second pid there.
        nested = pids is not None and len(pids[1].split()) > 1
        if program in STRAYS and named and not nested and os.geteuid() in (0, owner):
            found.append((int(process.name), program))
    return found


async def _end_stray(pid: int, program: str) -> None:
    started = start_ticks(pid)
    log.warning("ending a server that a killed daemon left behind without a record", program=program, pid=pid)
    await end(pid, STRAYS[program], LEFTOVER_S, lambda: start_ticks(pid) != started)
    if started and start_ticks(pid) == started:
        raise NotStarted(f"process {pid}, which a killed daemon left behind, does not end: end it by hand")


async def end(pid: int, ask: signal.Signals, patience_s: float, gone: Callable[[], bool]) -> None:
    """Send `ask`, after `patience_s` SIGKILL to its whole process group; returns when it is `gone`, or KILL_S later."""
    for send, number, wait_s in ((os.kill, ask, patience_s), (os.killpg, signal.SIGKILL, KILL_S)):
        with contextlib.suppress(ProcessLookupError), trio.move_on_after(wait_s):
            if not gone():
                send(pid, number)
            while True:
                if gone():
                    return
                await trio.sleep(POLL_S)


def start_ticks(pid: int) -> str:
    """Clock ticks after boot at which the process started; empty when there is no such process, or a dead one."""
    try:
        return _start_ticks(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace"))
    except OSError:
        return ""


def tail(path: Path) -> str:
    """The last lines of a log file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"(no log: {error.strerror})"
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])


def open_log(path: Path) -> io.BufferedWriter:
    """For the output of a child, below what it holds. Raises OSError."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.old"))
    return _open(path)


def _start_ticks(stat: str) -> str:
    """Fields 3 (state) and 22 (start time); the name before them may hold anything, also spaces and brackets."""
    fields = stat.rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return "?"  # not Linux: nothing is found there to be ended either


def _open(path: Path, flags: int = 0) -> io.BufferedWriter:
    """For appending; 0600, because a server's log quotes data."""
    return open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | flags, 0o600), "ab")
