"""A dashboard, over any stream: each message of the daemon is judged by the description that the daemon serves."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import trio

from tests.kit.described import check_frame
from tests.kit.tokens import token
from tests.kit.websocket import BINARY, CLOSE, NORMAL, PING, PONG, TEXT, RawSocket, close, close_code, frame, request

WITHIN_S = 30.0  # for what takes milliseconds on an idle machine
GOODBYE_S = 1.0
Json = dict[str, Any]


class Refused(Exception):
    """No WebSocket, but this status; 0 without an answer."""


class Closed(Exception):
    """The daemon has ended the connection: with this code, or without a close frame (None)."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Dashboard(RawSocket):
    """It reads, and so answers pings, only while a test waits for something."""

    async def send(self, message: object) -> None:
        """Bytes go out as a binary message, text as it is, all else as JSON."""
        if isinstance(message, bytes):
            await self.write(frame(BINARY, message))
        else:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.write(frame(TEXT, text.encode()))

    async def say(self, event: str, data: Mapping[str, object] | None = None, **more: object) -> None:
        await self.send({"event": event, "data": data or {}, **more})

    async def frame(self) -> tuple[int, bytes] | None:
        """As of RawSocket; pings and a close are answered on the way."""
        found = await super().frame()
        while found is not None and found[0] == PING:
            await self.write(frame(PONG, found[1]))
            found = await super().frame()
        if found is not None and found[0] == CLOSE:
            await self.write(frame(CLOSE, found[1][:2]))
        return found

    async def receive(self, within_s: float = WITHIN_S) -> Json:
        """The next message. Raises Closed."""
        with trio.fail_after(within_s):
            found = await self.frame()
        if found is None or found[0] == CLOSE:
            raise Closed(None if found is None else close_code(found[1]))
        assert found[0] == TEXT, found
        return check_frame(found[1])

    async def until(self, holds: Callable[[Json], object]) -> Json:
        """The first message of this kind; others are dropped."""
        while not holds(message := await self.receive()):
            pass
        return message

    async def closed(self, events: list[str] | None = None) -> int | None:
        """Read to the end: its code, None without a close frame. `events` takes the names of what still came."""
        try:
            while True:
                message = await self.receive()
                if events is not None:
                    events.append(message["event"])
        except Closed as end:
            return end.code

    async def ask(self, event: str, data: Mapping[str, object] | None = None, **more: object) -> Json:
        """The next message after this request."""
        await self.say(event, data, **more)
        return await self.receive()

    async def data(self, event: str, data: Mapping[str, object] | None = None, *, reply: str) -> Json:
        """The data of the reply, which must be of this event."""
        answer = await self.ask(event, data, id="ask")
        assert (answer["event"], answer.get("id")) == (reply, "ask"), answer
        found: Json = answer["data"]
        return found

    async def subscribe(self, race: str) -> list[Json]:
        """The positions of the snapshot."""
        snapshot = await self.data("subscribe_race", {"raceId": race}, reply="race_snapshot")
        assert set(snapshot) == {"raceId", "positions", "serverTime"}
        assert snapshot["raceId"] == race
        positions: list[Json] = snapshot["positions"]
        return positions

    async def refused(self, message: object) -> tuple[str, object]:
        """(code, id) of the error that answers this message."""
        await self.send(message)
        while (answer := await self.receive())["event"] == "participant_stale":  # time goes on, on any machine
            pass
        assert answer["event"] == "error", answer
        assert set(answer["data"]) == {"code", "message"}
        assert answer["data"]["message"]
        return answer["data"]["code"], answer.get("id")

    async def silent(self) -> None:
        """Nothing is on its way to this dashboard: the next message is the answer to a question asked now."""
        marker = secrets.token_hex(8)
        answer = await self.ask("unsubscribe_race", {"raceId": "nobody-has-this"}, id=marker)
        assert answer == {"event": "race_unsubscribed", "data": {"raceId": "nobody-has-this"}, "id": marker}

    async def leave(self) -> None:
        """Say good-bye and wait for the answer, for a while."""
        with trio.move_on_after(GOODBYE_S):
            await self.write(close(NORMAL))
            while (found := await super().frame()) is not None and found[0] != CLOSE:
                pass

    @classmethod
    @asynccontextmanager
    async def on(cls, stream: trio.abc.Stream, target: str, **fields: str | None) -> AsyncIterator[Self]:
        """One that was let in, over this stream, which is closed in the end. The token is in the target."""
        try:
            board = cls(stream)
            with trio.fail_after(WITHIN_S):
                status = await board.open(request(target, line="", Authorization=None, **fields))
            if status != 101:
                raise Refused(status)
            yield board
            await board.leave()
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def dashboard(port: int, offer: str | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Dashboard]:
    """A dashboard of 127.0.0.1, with a token for all races; `offer` of extensions."""
    fields = {"Host": f"127.0.0.1:{port}", "Sec_WebSocket_Extensions": offer}
    stream: trio.abc.Stream = await connected(port)
    if tls is not None:
        stream = trio.SSLStream(stream, tls, server_hostname="127.0.0.1", https_compatible=True)
    async with Dashboard.on(stream, f"/tracking?token={token()}", **fields) as board:
        yield board


async def connected(port: int, receive_bytes: int = 0) -> trio.SocketStream:
    """A connection to 127.0.0.1; `receive_bytes` makes the kernel's buffer of it small."""
    plain = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        await plain.connect(("127.0.0.1", port))
    except BaseException:
        plain.close()
        raise
    return trio.SocketStream(plain)


def reset_on_close(stream: trio.SocketStream) -> None:
    """Closing it will send RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
