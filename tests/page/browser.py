"""Debian's Chromium, headless, driven over the DevTools protocol with the WebSocket client the tests have anyway."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from websockets.sync.client import connect
from websockets.sync.connection import Connection

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--no-first-run",
    "--no-pings",
    "--mute-audio",
    "--remote-debugging-port=0",
)
START_S = 60.0
WITHIN_S = 45.0


def chromium() -> str | None:
    """Its path, where it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class PageError(AssertionError):
    """An expression that threw."""


@attrs.define(eq=False)
class Tab:
    """One page. Everything it logs and asks for is kept."""

    socket: Connection
    session: str
    console: list[str] = attrs.field(factory=list)  # errors and warnings
    requests: list[dict[str, Any]] = attrs.field(factory=list)  # {url, headers}
    upgrades: list[dict[str, str]] = attrs.field(factory=list)  # headers of the answers to WebSocket handshakes
    _calls: int = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command; events that come meanwhile are kept."""
        self._calls += 1
        number = self._calls
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=WITHIN_S))
            if answer.get("id") == number and answer.get("sessionId", "") == self.session:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer:
                self._note(answer["method"], answer["params"])

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"])[:500])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.console.append(json.dumps(params["args"])[:500])
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.requests.append({"url": params["request"]["url"], "headers": params["request"]["headers"]})
        elif event == "Network.webSocketCreated":
            self.requests.append({"url": params["url"], "headers": {}})
        elif event == "Network.webSocketHandshakeResponseReceived":
            self.upgrades.append(params["response"]["headers"])

    def run(self, expression: str) -> Any:
        """Its value, awaited when it is a promise."""
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise PageError(json.dumps(done["exceptionDetails"])[:800])
        return done["result"].get("value")

    def until(self, expression: str, what: str = "", within_s: float = WITHIN_S) -> Any:
        """The value of the expression, once it is true."""
        deadline = time.monotonic() + within_s
        while True:
            value = self.run(expression)
            if value:
                return value
            assert time.monotonic() < deadline, (what or expression, self.run("document.body.innerText"), self.console)
            time.sleep(0.05)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def size(self, width: int, height: int, *, touch: bool = False, ratio: float = 1.0) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=touch
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2)

    def prefer(self, scheme: str) -> None:
        """`dark` or `light`, as the system would."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def key(self, key: str, code: int = 0, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        box = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2, b.width]; })()"
        )
        assert box[2] > 0, f"{selector} is not visible"
        self.mouse("mousePressed", *box[:2])
        self.mouse("mouseReleased", *box[:2])

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        button = "none" if kind in ("mouseWheel",) else "left"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1, **more)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@attrs.define(eq=False)
class Browser:
    """A running Chromium."""

    url: str

    @contextmanager
    def tab(self, width: int = 1280, height: int = 800, *, before: str = "") -> Iterator[Tab]:
        """A tab in a profile of its own; `before` is run in each page before its own scripts."""
        with connect(self.url, max_size=None, open_timeout=WITHIN_S) as socket:
            root = Tab(socket, "")
            context = root.call("Target.createBrowserContext")["browserContextId"]
            target = root.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
            session = root.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            tab = Tab(socket, session)
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.call(f"{domain}.enable")
            tab.size(width, height)
            if before:
                tab.call("Page.addScriptToEvaluateOnNewDocument", source=before)
            try:
                yield tab
            finally:
                root.call("Target.disposeBrowserContext", browserContextId=context)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Chromium with a new profile in the folder; it is gone afterwards."""
    path = chromium()
    assert path is not None
    log = folder / "chromium.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=output,
            stderr=output,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
    try:
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"ws://\S+", log.read_text("utf-8", "replace"))):
            assert process.poll() is None, log.read_text("utf-8", "replace")
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")
            time.sleep(0.05)
        yield Browser(found[0])
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
