"""A headless Chromium for tests, spoken to through a pipe in the DevTools protocol: no driver, no port, no package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

__all__ = ["SECONDS", "Browser", "find_chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",  # containers have no user namespaces; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
SECONDS = 60.0  # for one answer
PATIENCE = 10.0  # for what a page does by itself after an event, on a machine that is busy


def find_chromium() -> str | None:
    """Path of the browser, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab of a new browser with an empty profile.

    Attributes:
        events: what the tab has told: (method, parameters), such as console messages and requests.
    """

    def __init__(self, profile: Path) -> None:
        chromium = find_chromium()
        if chromium is None:
            raise FileNotFoundError("no Chromium is installed: apt-get install --no-install-recommends chromium")
        to_browser, from_browser = os.pipe(), os.pipe()
        # The browser reads commands from descriptor 3 and writes to 4; bash puts the pipes there.
        line = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", line, "bash", chromium, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser[0], from_browser[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self.commands, self.answers = to_browser[1], from_browser[0]
        self.unread = b""
        self.number = 0
        self.session: str | None = None
        self.events: list[tuple[str, dict[str, Any]]] = []
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        self.session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters or {}}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self.unread:
            if not select.select([self.answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser has not answered for {SECONDS:g} seconds")
            piece = os.read(self.answers, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self.unread += piece
        text, _, self.unread = self.unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message.get("params", {})))
        return message

    def open(self, address: str) -> None:
        """Load a page and wait until it and its pictures are there."""
        self.events.clear()
        self.send("Page.navigate", {"url": address})
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._receive()

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression; a promise is waited for."""
        wish = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", wish)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait until what the page does after an event is done: it has been drawn once more."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def soon(self, script: str, expected: Any) -> Any:
        """The value of ``script`` as soon as it is the expected one, or what it is in the end: who asks compares."""
        end = time.monotonic() + PATIENCE
        while (value := self.run(script)) != expected and time.monotonic() < end:
            self.settle()
        return value

    def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Set the size of the window in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, **features: str) -> None:
        """Set media features, ``color_scheme="dark"`` for ``prefers-color-scheme``."""
        wished = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", {"features": wished})

    def press(self, key: str, *, code: int, text: str = "") -> None:
        """Press and release a key, such as ``press("Tab", code=9)``."""
        wish = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.send("Input.dispatchKeyEvent", {"type": "keyDown", **wish})
        self.send("Input.dispatchKeyEvent", {"type": "keyUp", **wish})

    def click(self, selector: str) -> None:
        """Click in the middle of an element, once it stands still: parts of a page get their size on scrolling."""
        script = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({ block: 'center', behavior: 'instant' }); const box = e.getBoundingClientRect(); "
            "return { x: box.x + box.width / 2, y: box.y + box.height / 2 }; })()"
        )
        place, before = self.run(script), None
        while place != before:
            self.settle()
            place, before = self.run(script), place
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", {"type": kind, **place, "button": "left", "clickCount": 1})

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Save what is to be seen, or the whole page, as PNG."""
        picture = self.send("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(Exception):
            self.session = None
            self.send("Browser.close")
        for end in (self.commands, self.answers):
            with contextlib.suppress(OSError):
                os.close(end)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
