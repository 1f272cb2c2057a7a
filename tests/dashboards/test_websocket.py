"""websocket.py: what it relies on in the library. Frames on sockets: test_websocket_hostile.py, tests/contract."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing
from trio_websocket import WebSocketConnection, wrap_server_stream


async def test_the_reader_is_what_the_library_starts_for_a_server() -> None:
    """The one thing of it that is taken without a promise."""
    started: list[Any] = []
    with trio.move_on_after(0):
        stream, _ = trio.testing.memory_stream_pair()
        await wrap_server_stream(cast(trio.Nursery, SimpleNamespace(start_soon=started.append)), stream)
    [reader] = started
    assert reader == reader.__self__._reader_task
    assert isinstance(reader.__self__, WebSocketConnection)
