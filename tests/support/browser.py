"""Headless Chromium, driven over a pipe with the Chrome DevTools Protocol: no other package is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATH = next(filter(None, map(shutil.which, NAMES)), None)
WAIT_SECONDS = 30
# Chromium reads commands from file descriptor 3, and writes responses to 4.
LAUNCH = """\
import fcntl, os, sys
commands, responses = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(responses, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A browser with one page.

    :ivar problems: uncaught exceptions, and errors in the page's console, since it was opened
    """

    def __init__(self, commands: int, responses: int) -> None:
        self._commands, self._responses = commands, responses
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            if message["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(json.dumps(message["params"]))
        assert "error" not in message, message
        return message["result"]

    def open(self, url: str) -> None:
        """Open a page."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")
        self.problems.clear()

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.evaluate(condition):
            if time.monotonic() > deadline:
                text = self.evaluate("document.body.innerText")
                raise AssertionError(f"Not true: {condition}. The page:\n{text}")
            time.sleep(0.05)

    def close(self) -> None:
        """Close the pipe. Without its other end, Chromium exits."""
        os.close(self._commands)
        os.close(self._responses)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = os.read(self._responses, 65536)
            assert received, "Chromium has exited."
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def headless(folder: Path) -> Iterator[Browser]:
    """Run a browser.

    :param folder: for its profile
    """
    commands, to_browser = os.pipe()
    from_browser, responses = os.pipe()
    arguments = [
        str(PATH),
        "--headless",
        # Chromium's sandbox does not work as root, which is often the only user in a container.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(commands), str(responses), *arguments],
        pass_fds=(commands, responses),
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(responses)
    try:
        browser = Browser(to_browser, from_browser)
        yield browser
        browser.close()
        process.wait(WAIT_SECONDS)
    finally:
        process.kill()
        process.wait()
