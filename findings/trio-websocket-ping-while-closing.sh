#!/bin/sh
# trio-websocket 0.12.2 (with wsproto 1.3.2): a ping that crosses our close silently ends the nursery around us.
#
# A ping may come until the peer has sent its own close frame (RFC 6455, sections 5.5.1 and 5.5.2), and a server with a
# heartbeat sends one now and then without knowing that a close is on its way to it. Most expect such a ping to be
# answered or overlooked, and the `async with` of the client to end quietly. But the library answers with a pong, which
# wsproto does not send once we are closing: the task that reads dies of a LocalProtocolError, and whoever was closing is
# told trio.Cancelled, though nobody cancelled anything. The nursery around it takes that for its own and ends without a
# word: what stands behind the `async with` is never run. It happens as often as a heartbeat and a close meet on the way.
#
# Exits with 1 when this has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check trio==0.35.0 trio-websocket==0.12.2 wsproto==1.3.2 2>/dev/null
cat >seen.py <<'PY'
import trio
import wsproto
from trio_websocket import open_websocket_url
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request


async def serve(stream):
    """Accepts; its heartbeat and the client's close frame cross; then it answers the close as it must."""
    ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    while data := await stream.receive_some():
        ws.receive_data(data)
        for event in ws.events():
            if isinstance(event, Request):
                await stream.send_all(ws.send(AcceptConnection()))
            elif isinstance(event, CloseConnection):
                await stream.send_all(b"\x89\x00")  # the ping: sent before the close was read
                await stream.send_all(ws.send(event.response()))


async def main():
    reached = False
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with open_websocket_url(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"):
            pass
        reached = True
        nursery.cancel_scope.cancel()
    return reached


reached = trio.run(main)
print(f"trio {trio.__version__}. Expected: what stands behind the client's `async with` runs. Seen: reached = {reached}, nothing raised")
raise SystemExit(reached)
PY
timeout 60 venv/bin/python seen.py
