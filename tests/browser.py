"""A real browser for the tests of the page: Chromium or Chrome without a window, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def find_browser() -> str | None:
    """The program, or None where there is no Chromium and no Chrome, and on Windows, which has no pipes of this kind."""
    if os.name == "nt":
        return None
    return next(filter(None, map(shutil.which, [*NAMES, *PLACES])), None)


class Browser:
    """One browser with one tab. Commands go through a pipe, which needs no port and no package (not on Windows).

    Used as `with Browser() as browser:`, so that it ends with the test.
    """

    def __init__(self, *flags: str):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_end, self.commands = os.pipe()
        self.answers, write_end = os.pipe()
        # The browser reads file descriptor 3 and writes 4; a shell puts the pipes there.
        start = f'exec "$@" 3<&{read_end} 4>&{write_end}'
        program = [find_browser(), *FLAGS, *flags, f"--user-data-dir={self.profile.name}", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            ["bash", "-c", start, "bash", *program], pass_fds=(read_end, write_end), stderr=subprocess.DEVNULL
        )
        os.close(read_end)
        os.close(write_end)
        self.received, self.number, self.session = b"", 0, None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.send("Page.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_) -> None:
        os.close(self.commands)
        os.close(self.answers)
        self.process.terminate()
        self.process.wait()
        self.profile.cleanup()

    def send(self, method: str, **parameters) -> dict:
        """One command of the protocol, and its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _receive(self, seconds: float = 30) -> dict:
        while b"\0" not in self.received:
            if not select.select([self.answers], [], [], seconds)[0]:
                raise TimeoutError("the browser does not answer")
            self.received += os.read(self.answers, 1 << 20)
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file and wait until its scripts have run."""
        self.send("Page.navigate", url="about:blank")  # another #... alone would not load the page anew
        self.send("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.wait_for("location.protocol === 'file:' && document.readyState === 'complete'")

    def run(self, script: str):
        """The value of a JavaScript expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", script))
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 10) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def press(self, *keys: str, shift: bool = False) -> None:
        """Real keys, by their names in KEYS, or single letters."""
        for key in keys:
            event = {"key": key, "modifiers": 8 if shift else 0, "windowsVirtualKeyCode": KEYS.get(key, ord(key[0].upper()))}
            typed = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            self.send("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": typed} if typed else {}))
            self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def point(self, selector: str) -> tuple[float, float]:
        """Move the real pointer to the middle of an element, and return where that is."""
        node = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{node}.scrollIntoView({{block: 'center'}})")
        box = self.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({node}.getBoundingClientRect())")
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        return box

    def click(self, selector: str) -> None:
        """A real click into the middle of an element."""
        x, y = self.point(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, width: int, height: int | None = None, *, dark: bool = False) -> None:
        """The whole page, or its first `height` pixels."""
        mobile = width < 500
        size = {"width": width, "height": height or 900, "deviceScaleFactor": 1, "mobile": mobile}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=height is None)
        path.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    # python tests/browser.py PAGE.html FOLDER: pictures of a page in each width, scheme and language, to be looked at
    page, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for language in ("en", "ko"):
            browser.open(page, f"#language={language}")
            for width in (1400, 800, 390):
                for dark in (False, True):
                    browser.screenshot(folder / f"{language}_{width}_{'dark' if dark else 'light'}.png", width, dark=dark)
