"""An HTTP/1.1 client that sends whatever it is given and takes answers apart one by one."""

from __future__ import annotations

import attrs
import h11
import trio

from tests.kit.client import WITHIN_S


@attrs.frozen
class Reply:
    """`whole`: it ended as its head had said."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True


@attrs.define(eq=False)
class HttpClient:
    stream: trio.abc.Stream
    rest: bytes = b""  # came behind the last answer

    async def ask(self, sent: bytes) -> Reply:
        """Send it all, and take the answer to the first request in it."""
        await self.stream.send_all(sent)
        return await self.reply(sent.partition(b" ")[0])

    async def reply(self, method: bytes = b"GET") -> Reply:
        """The next answer, which is to a request with this method."""
        protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=1024 * 1024)
        protocol.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        protocol.send(h11.EndOfMessage())
        protocol.receive_data(self.rest) if self.rest else None
        head: h11.Response | None = None
        body = bytearray()
        with trio.fail_after(WITHIN_S):
            while True:
                try:
                    event = protocol.next_event()
                except h11.RemoteProtocolError:
                    assert head is not None, "it closed without an answer"
                    return _reply(head, body, whole=False)
                if event is h11.NEED_DATA:
                    protocol.receive_data(bytes(await self.stream.receive_some(65536)))
                elif isinstance(event, h11.Response):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    assert head is not None
                    self.rest = protocol.trailing_data[0]
                    return _reply(head, body, whole=True)

    async def ended(self) -> bytes:
        """What still comes until the server closes."""
        received = bytearray(self.rest)
        with trio.fail_after(WITHIN_S):
            while data := await self.stream.receive_some(65536):
                received += data
        return bytes(received)


def _reply(head: h11.Response, body: bytearray, whole: bool) -> Reply:
    fields = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    return Reply(head.status_code, fields, bytes(body), whole)
