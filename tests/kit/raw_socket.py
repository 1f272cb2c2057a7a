"""A WebSocket client without manners: any bytes go out, and what comes back is taken apart frame by frame."""

from __future__ import annotations

import trio

HEAD_END = b"\r\n\r\n"


class RawSocket:
    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self._received = bytearray()

    async def open(self, head: bytes) -> int:
        """Send the request; the status of the answer, 0 when there was none."""
        await self.send(head)
        while HEAD_END not in self._received:
            if not await self._more():
                return 0
        answer, _, self._received = self._received.partition(HEAD_END)
        assert b"extensions" not in answer.lower()
        return int(answer.split(b" ")[1])

    async def send(self, *parts: bytes) -> None:
        """A write each."""
        try:
            for part in parts:
                await self.stream.send_all(part)
        except trio.BrokenResourceError:
            pass  # the server had enough; what it said can still be read

    async def frame(self) -> tuple[int, bytes] | None:
        """First byte and payload of the next frame. None: the server has closed, after whole frames."""
        while (start := self._payload_start()) is None or len(self._received) < start + self._size():
            if not await self._more():
                assert not self._received
                return None
        end = start + self._size()
        found = self._received[0], bytes(self._received[start:end])
        del self._received[:end]
        return found

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return False
        self._received += data
        return bool(data)

    def _payload_start(self) -> int | None:
        """None: the header is not there yet."""
        if len(self._received) < 2:
            return None
        assert self._received[1] < 128, "a server does not mask"
        start = {126: 4, 127: 10}.get(self._received[1], 2)
        return start if len(self._received) >= start else None

    def _size(self) -> int:
        short = self._received[1]
        return short if short < 126 else int.from_bytes(self._received[2 : 4 if short == 126 else 10], "big")
