"""Libraries that dashboards are built with, as they come: each offers compression in its own way, compresses every
request, and is sent a snapshot in compressed fragments, over real TCP."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import trio

from actors.core.position import position_json
from actors.dashboards.frames import LARGE_BYTES
from tests.kit.client import WITHIN_S, Json
from tests.kit.daemon import ROOT
from tests.kit.dashboards import Site, make_fix, running_site
from tests.kit.described import check_frame
from tests.kit.tokens import token

pytestmark = pytest.mark.live

# Each prints what was agreed on, then every message as it is, a line each. Arguments: address, requests.
WEBSOCKETS = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as board:
    print(board.response.headers["Sec-WebSocket-Extensions"], flush=True)
    for request in sys.argv[2:]:
        board.send(request)
    for message in board:
        print(message, flush=True)
"""
# By default it compresses nothing below 1 kB.
WS = """
const [url, ...requests] = process.argv.slice(1);
const board = new (require("ws"))(url, { perMessageDeflate: { threshold: 0 } });
board.on("upgrade", (answer) => console.log(answer.headers["sec-websocket-extensions"]));
board.on("open", () => requests.forEach((request) => board.send(request)));
board.on("message", (message) => console.log(message.toString()));
"""

AGREED = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RACE = "R1"
WHO = [f"Zoë {number}" for number in range(3000)]  # some are cut in two by the end of a fragment


def websockets() -> list[str]:
    return [sys.executable, "-c", WEBSOCKETS]


def ws() -> list[str]:
    node = shutil.which("node")
    if node is None or not (ROOT / "node_modules" / "ws").exists():
        pytest.skip("ws of Node is not installed: apt-get install npm, npm install --no-save ws@8")
    return [node, "-e", WS, "--"]


class Lines:
    """What a program prints."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._rest = b""

    async def line(self) -> bytes:
        while b"\n" not in self._rest:
            data = await self._stream.receive_some()
            assert data, "it has ended"
            self._rest += data
        found, _, self._rest = self._rest.partition(b"\n")
        return found

    async def message(self) -> Json:
        return check_frame(await self.line())


async def talk(site: Site, lines: Lines) -> None:
    assert (await lines.line()).startswith(AGREED)  # perhaps with the size of a window
    for number in range(3):  # again: nothing of the message before is looked back into
        snapshot = await lines.message()
        assert snapshot["id"] == number
        assert [position["participantId"] for position in snapshot["data"]["positions"]] == WHO
    for who in WHO[:50]:
        site.races.change(RACE, who)
    for who in WHO[:50]:
        assert (await lines.message())["data"]["participantId"] == who


@pytest.mark.parametrize("library", [websockets, ws], ids=lambda library: str(library.__name__))
async def test_a_library_takes_compressed_fragments_and_compresses_what_it_sends(
    library: Callable[[], list[str]],
) -> None:
    command = library()
    async with running_site() as site:
        site.races.positions = b",".join(position_json(make_fix(who), stale=False) for who in WHO)
        assert len(site.races.positions) > LARGE_BYTES
        url = f"ws://127.0.0.1:{site.port}/tracking?token={token()}"
        requests = [f'{{"event":"subscribe_race","id":{number},"data":{{"raceId":"{RACE}"}}}}' for number in range(3)]
        process = await trio.lowlevel.open_process([*command, url, *requests], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        try:
            async with process.stdout as printed:
                with trio.fail_after(WITHIN_S):
                    await talk(site, Lines(printed))
        finally:
            process.kill()
            await process.wait()
