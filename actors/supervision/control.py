"""The control socket: tells `supervisor.py status` how the running daemon is.

Owns a Unix socket in data_dir, mode 0600. Takes in connections; sends each one JSON document and the end of stream.
A crash loses the answers under way, nothing else; a restart listens anew. Stops at once when cancelled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from actors.supervision.unix_socket import listen, remove

log = structlog.get_logger("control")

ANSWER_S = 5.0  # a client that does not read is left

Snapshot = Callable[[], Mapping[str, Any]]
"""Gives, now, as plain JSON values:

    {"pid": 4711, "node_id": "host", "uptime_s": 12.5, "races": 3,
     "actors": [{"actor": "reader", "state": "running", "restarts": 0, "mailbox_depth": 0, "handled": 1234,
                 "last_crash": ""}, ...],
     "components": {"broker": {"up": true, "detail": "ok"}, ...}}

`actors` in start order; the keys of the first line and `last_crash` may be absent. It must not raise and not take long.
"""


@attrs.define
class ControlSocket:
    """Owns the Unix socket."""

    socket_path: Path  # at most 107 bytes; its folder belongs to this daemon
    snapshot: Snapshot  # asked once a connection

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises NotStarted when the socket cannot be made."""
        listener = listen(self.socket_path)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._answer, [listener])
                task_status.started()
        finally:
            remove(self.socket_path)

    async def _answer(self, stream: trio.abc.SendStream) -> None:
        document = json.dumps(self.snapshot(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        async with stream:
            with trio.move_on_after(ANSWER_S) as late:
                try:
                    await stream.send_all(document)
                except trio.BrokenResourceError:
                    log.debug("status was asked for and not waited for")
            if late.cancelled_caught:
                log.debug("status was asked for and not read", after_s=ANSWER_S)
