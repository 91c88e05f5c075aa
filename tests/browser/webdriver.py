"""As much of the WebDriver protocol (W3C) as the tests of the report need: JSON over HTTP."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
KEYS = {
    "Tab": "\ue004",
    "Enter": "\ue007",
    "End": "\ue010",
    "Home": "\ue011",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
}


class Browser:
    """One window of a headless Chromium."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Load a page and wait until it has loaded."""
        self._post("url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what the body of a function returns, run in the page."""
        return self._post("execute/sync", {"script": script, "args": arguments})

    def text(self, selector: str) -> str:
        """Return the text of the first element that fits."""
        text = self.run("return document.querySelector(arguments[0]).textContent", selector)
        return str(text)

    def click(self, selector: str) -> None:
        """Click the first element that fits, as a user does."""
        found = self._post("element", {"using": "css selector", "value": selector})
        self._post(f"element/{next(iter(found.values()))}/click", {})

    def press(self, *keys: str) -> None:
        """Press and release keys, one after another: names in KEYS, or characters."""
        actions = [
            {"type": kind, "value": KEYS.get(key, key)}
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._post("actions", {"actions": [keyboard]})

    def wait(self, condition: str, seconds: float = 30) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            assert time.monotonic() < end, f"still not: {condition}"
            time.sleep(0.05)
        return value

    def screenshot(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        path.write_bytes(b64decode(request("GET", f"{self._session}/screenshot")))

    def _post(self, what: str, body: Any) -> Any:
        return request("POST", f"{self._session}/{what}", body)


def request(method: str, url: str, body: Any = None) -> Any:
    """Send one command to the driver and return its value."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - our own driver
    try:
        with urllib.request.urlopen(call, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def driver(log: Path) -> Iterator[str]:
    """Yield the address of a running chromedriver; it and its browsers end with this."""
    with log.open("wb") as output:
        process = subprocess.Popen(["chromedriver", "--port=0"], stdout=output, stderr=output)  # noqa: S607 - wherever it is installed
        try:
            yield f"http://127.0.0.1:{_port(log)}"
        finally:
            process.terminate()
            process.wait(10)


def _port(log: Path) -> str:
    for _ in range(200):
        if started := re.search(r"started successfully on port (\d+)", log.read_text()):
            return started[1]
        time.sleep(0.05)
    raise AssertionError(f"chromedriver does not start: {log.read_text()}")


@contextmanager
def browser(address: str, profile: Path, width: int, height: int, dark: bool) -> Iterator[Browser]:
    """Yield a new window of a browser of its own."""
    flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    if dark:
        flags.append("--force-dark-mode")
    options = {
        "alwaysMatch": {
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }
    }
    started = request("POST", f"{address}/session", {"capabilities": options})
    session = f"{address}/session/{started['sessionId']}"
    try:
        yield Browser(session)
    finally:
        request("DELETE", session)
