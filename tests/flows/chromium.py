"""A real browser for tests: Debian's chromium without a window, driven over the DevTools protocol.

Keys and mouse come in as from a person, so focus, keyboard handling and layout are the browser's own. What a page logs
as an error, and every address it asks, is kept.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_S = 60.0
KEYS = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "s": 83, "a": 65}


class Chromium:
    """One page. Use it as a context manager."""

    def __init__(self, profile: Path, patience_s: float = PATIENCE_S) -> None:
        self._profile, self._patience_s = profile, patience_s
        self._ids = itertools.count(1)
        self.errors: list[str] = []
        self.addresses: list[str] = []

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        port = next(match[1] for line in self._process.stderr if (match := re.search(r"ws://127.0.0.1:(\d+)", line)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            page = next(each for each in json.load(answer) if each["type"] == "page")
        self._socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; what the page reports meanwhile is kept."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv(timeout=self._patience_s))
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])
            self._note(said)

    def _note(self, event: dict[str, Any]) -> None:
        kind, parameters = event["method"], event["params"]
        if kind == "Network.requestWillBeSent":
            self.addresses.append(parameters["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"]))
        elif kind == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])

    def open(self, address: str, *, width: int, height: int, dark: bool = False) -> None:
        """Show a page in a window of a size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + self._patience_s
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never true: {expression}\n{self.value('document.body.innerText')}"
            time.sleep(0.05)

    def focus(self, selector: str) -> None:
        """Put the keyboard's focus on the first element that a selector finds."""
        assert self.value(f"(e => (e.focus(), document.activeElement === e))(document.querySelector({selector!r}))")

    def write(self, text: str) -> None:
        """Replace what stands in the focused field, as by keyboard."""
        self.press("a", control=True)
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, control: bool = False, times: int = 1) -> None:
        """Press a key."""
        commands = {"commands": ["selectAll"]} if key == "a" and control else {}
        text = {"text": "\r"} if key == "Enter" else {}
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=KEYS[key],
                    modifiers=2 if control else 0, **(commands | text if kind == "keyDown" else {}),
                )  # fmt: skip

    def picture(self, path: Path) -> None:
        """Write what is seen as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
