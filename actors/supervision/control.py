"""The control socket: tells `supervisor.py status` how the running daemon is, and takes `leave`.

Owns a Unix socket in data_dir, mode 0600. Takes in connections, each with one word; sends each one JSON document and
the end of stream. A crash loses the answers under way, nothing else: who asks to leave again gets the answer then.
A restart listens anew. Stops at once when cancelled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from actors.supervision.unix_socket import listen, remove

log = structlog.get_logger("control")

ANSWER_S = 5.0  # a client that does not read is left
WORD_S = 1.0  # one that says nothing wants the status
LEAVE = b"leave"

Snapshot = Callable[[], Mapping[str, Any]]
"""Gives, now, as plain JSON values:

    {"pid": 4711, "node_id": "host", "uptime_s": 12.5, "races": 3,
     "actors": [{"actor": "reader", "state": "running", "restarts": 0, "mailbox_depth": 0, "handled": 1234,
                 "last_crash": ""}, ...],
     "components": {"broker": {"up": true, "detail": "ok"}, ...}}

`actors` in start order; the keys of the first line and `last_crash` may be absent. It must not raise and not take long.
"""


Leave = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]
"""Takes the node out for good, and gives what came of it as plain JSON values. The daemon ends after the block."""


@attrs.define
class ControlSocket:
    """Owns the Unix socket."""

    socket_path: Path  # at most 107 bytes; its folder belongs to this daemon
    snapshot: Snapshot  # asked once a connection
    leave: Leave

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises NotStarted when the socket cannot be made."""
        listener = listen(self.socket_path)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._answer, [listener])
                task_status.started()
        finally:
            remove(self.socket_path)

    async def _answer(self, stream: trio.abc.Stream) -> None:
        async with stream:
            if await _word(stream) != LEAVE:
                await _send(stream, self.snapshot())
                return
            async with self.leave() as result:
                await _send(stream, result)


async def _word(stream: trio.abc.Stream) -> bytes:
    """What the client wants: all that it says, which ends with a line or with the stream."""
    said = b""
    with trio.move_on_after(WORD_S):
        try:
            while len(said) <= len(LEAVE) and not said.endswith(b"\n"):
                more = await stream.receive_some(len(LEAVE) + 1)
                if not more:
                    break
                said += more
        except trio.BrokenResourceError:
            log.debug("somebody asked and went away")
    return said.strip()


async def _send(stream: trio.abc.Stream, answer: Mapping[str, Any]) -> None:
    document = json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace")
    with trio.move_on_after(ANSWER_S) as late:
        try:
            await stream.send_all(document)
        except trio.BrokenResourceError:
            log.debug("an answer was asked for and not waited for")
    if late.cancelled_caught:
        log.debug("an answer was asked for and not read", after_s=ANSWER_S)
