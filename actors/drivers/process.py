"""Child processes that must not outlive their daemon for long: started in a session of their own, recorded on disk.

A session of their own, so that Ctrl-C in a terminal does not end them before the drain. No PR_SET_PDEATHSIG: it fires
when the starting thread ends. So a daemon that is killed leaves them behind, and the next start ends them: each is
recorded with its start time, which no other process with the same pid shares (proc(5), /proc/pid/stat field 22).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import trio

from actors.errors import NotStarted

POLL_S = 0.05
LOG_TAIL_LINES = 12


@attrs.frozen
class Plan:
    """How to run one server."""

    name: str
    argv: Sequence[str]
    folder: Path  # its working folder; the record stands in it too
    log: Path  # stdout and stderr are appended
    stop_signal: signal.Signals
    user: int | None = None  # uid and gid to run as; None = ours
    group: int | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)


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
        await end_process(self.process.pid, self.plan.stop_signal, patience_s, lambda: self.ended)
        await self.process.wait()
        _record(self.plan).unlink(missing_ok=True)

    def why(self) -> str:
        """The end of its log, for the operator."""
        return tail(self.plan.log)


async def start(plan: Plan) -> Running:
    """End what an earlier daemon left of it, then start it. Raises NotStarted."""
    await end_leftover(plan)
    with plan.log.open("ab") as log:
        try:
            process = await trio.lowlevel.open_process(
                list(plan.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=plan.folder,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **plan.env},
                start_new_session=True,
                user=plan.user,
                group=plan.group,
                extra_groups=None if plan.user is None else [],
            )
        except OSError as error:
            raise NotStarted(f"{plan.name} cannot be started: {error}") from error
    _record(plan).write_text(json.dumps({"pid": process.pid, "started": start_time(process.pid)}))
    return Running(plan, process)


async def end_leftover(plan: Plan) -> None:
    """A child that a killed daemon left behind, if it still runs."""
    record = _record(plan)
    try:
        found = json.loads(record.read_text())
        pid, started = int(found["pid"]), found["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if started is not None and start_time(pid) == started:
        await end_process(pid, plan.stop_signal, 10, lambda: start_time(pid) != started)
    record.unlink(missing_ok=True)


async def end_process(pid: int, ask: signal.Signals, patience_s: float, gone: object) -> None:
    """Send `ask`, wait `patience_s`, then SIGKILL to the whole session; returns when `gone()`."""
    assert callable(gone)
    for number, wait_s in ((ask, patience_s), (signal.SIGKILL, 10.0)):
        if gone():
            return
        try:
            if number is signal.SIGKILL:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
        except ProcessLookupError:
            return
        with trio.move_on_after(wait_s):
            while not gone():
                await trio.sleep(POLL_S)


def start_time(pid: int) -> str | None:
    """Clock ticks after boot at which the process started; None when there is no such process, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def tail(log: Path) -> str:
    """The last lines of a log file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"(no log: {error.strerror})"
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])


def _record(plan: Plan) -> Path:
    return plan.folder / f"{plan.name}.pid.json"
