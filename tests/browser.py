"""A headless Chromium that tests drive over its debugging pipe, without other packages."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

PATIENCE = 90
"""Seconds after which a browser that does not answer, or a page that does not get ready, is a failure."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_NO_WEBGL = ("--disable-gpu",)
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
"""Flags with which Chromium draws WebGL on the CPU."""


class Browser:
    """One page of a headless Chromium, offline unless a test serves a page on this machine.

    Args:
        profile: folder for its files.
        flags: further options of its command line; without :data:`WEBGL`, pages have no WebGL.
        offline: whether it has no network.

    Attributes:
        errors: messages of the console of level error, violations of the content security policy, exceptions.
        requests: addresses that were requested over a network.

    Example:
        >>> with Browser(tmp_path) as browser:  # doctest: +SKIP
        ...     browser.open(tmp_path / "report.html")
        ...     browser.evaluate("document.title")
    """

    def __init__(self, profile, flags=(), *, offline=True):
        self.errors, self.requests = [], []
        self._number = 0
        read_end, self._write = os.pipe()
        self._read, write_end = os.pipe()
        flags = flags or _NO_WEBGL
        command = [CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]

        def connect():  # Chromium reads commands from 3 and writes answers to 4
            a, b = os.dup(read_end), os.dup(write_end)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            command, preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(read_end)
        os.close(write_end)
        self._buffer, self._session = b"", None
        self._session = self._call("Target.attachToTarget", targetId=self._first_page(), flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call(
            "Network.emulateNetworkConditions",
            offline=offline,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError, AssertionError):
            self._send("Browser.close", None)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def resize(self, width, height=900, *, dark=False, mobile=False):
        """Set the size of the window in CSS pixels, and the preferred palette."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)

    def open(self, path):
        """Open a file, or the address of a page; return the seconds until it was loaded and drawn."""
        began = time.monotonic()
        self._loaded = False
        url = path if str(path).startswith(("http", "about:")) else Path(path).resolve().as_uri()
        self._call("Page.navigate", url=url)
        while not self._loaded:
            self._receive()
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.monotonic() - began

    def leave(self):
        """Leave the page and forget its errors, also those that were not received yet."""
        self.open("about:blank")
        self.errors.clear()

    def wait(self, condition, explain="document.body.textContent"):
        """Wait until a JavaScript expression is true; if it never is, fail with the value of ``explain``."""
        self.evaluate(
            f"new Promise((done, fail) => {{ const end = Date.now() + {1000 * PATIENCE}; (function look() {{"
            f"if ({condition}) done(); else if (Date.now() > end) fail(new Error({explain}));"
            "else setTimeout(look, 20); })(); })"
        )

    def evaluate(self, code):
        """Run JavaScript and return its value; promises are awaited."""
        answer = self._call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code=None):
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, **text)

    def drag(self, *places, button="left"):
        """Press a button of the mouse at the first place (x, y), in CSS pixels; release it at the last."""
        held = {"left": 1, "right": 2, "middle": 4}[button]
        steps = [("mouseMoved", places[0], 0), ("mousePressed", places[0], held)]
        steps += [("mouseMoved", place, held) for place in places[1:]] + [("mouseReleased", places[-1], 0)]
        for kind, (x, y), buttons in steps:
            of = {"button": "none" if kind == "mouseMoved" and not buttons else button, "clickCount": 1}
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=buttons, **of)

    def screenshot(self, path, *, full=True):
        """Write a PNG of the whole page, or of the window."""
        content = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        Path(path).write_bytes(base64.b64decode(content["data"]))

    def _first_page(self):
        """Return the id of the page that the browser starts with, which it may not have opened yet."""
        until = time.monotonic() + PATIENCE
        while True:
            for target in self._call("Target.getTargets")["targetInfos"]:
                if target["type"] == "page":
                    return target["targetId"]
            assert time.monotonic() < until, "chromium has no page"
            time.sleep(0.05)

    def _call(self, method, **params):
        number = self._send(method, params)
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _send(self, method, params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params or {}}
        message |= {"sessionId": self._session} if self._session else {}
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._write, data) :]
        return self._number

    def _receive(self):
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._read], [], [], 2 * PATIENCE)
            assert readable, "chromium does not answer"
            part = os.read(self._read, 1 << 16)
            assert part, "chromium has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, params):
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Page.javascriptDialogOpening":  # such as the question whether to leave a page
            self._send("Page.handleJavaScriptDialog", {"accept": True})
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(str(params["args"]))
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url.startswith(("http:", "https:", "ws:", "wss:")):
                self.requests.append(url)
