"""A real Chromium (Debian's), without a window, driven over its DevTools protocol.

Where it is not installed the tests that need it are skipped, or fail where services are required (`program`).
"""

import base64
import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from websockets.sync.client import connect

from tests.exporters.services import program

PATIENCE = 30.0
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",  # tests leave /dev/shm as they found it
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)

_DECODE = """(async () => {{
  const png = Uint8Array.from(atob("{}"), (char) => char.charCodeAt(0));
  const image = await createImageBitmap(new Blob([png]));
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const {{ data }} = canvas.getImageData(0, 0, image.width, image.height);
  let text = "";
  for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
  return [image.width, image.height, btoa(text)];
}})()"""
"""A browser reads its own screenshots: no library for that is needed."""


class Page:
    """One tab. Any command of the protocol by `send`; what its console said and what it asked the network for."""

    def __init__(self, browser, session):
        self._browser = browser
        self._session = session
        self.requests = []
        self.complaints = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """A command's result."""
        return self._browser.send(method, self._session, **parameters)

    def hear(self, message):
        """An event."""
        told = message["params"]
        match message["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(told["exceptionDetails"])
            case "Log.entryAdded":
                self.complaints.append(told["entry"])
            case "Runtime.consoleAPICalled":
                self.complaints.append(told["args"])
            case "Page.javascriptDialogOpening":
                self.complaints.append(told)
                self.send("Page.handleJavaScriptDialog", accept=False)

    def open(self, path, width=1200, height=900, *, scheme="light", media="", phone=False):
        """Show a file, and wait until its scripts ran and it was painted."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.look(scheme, media)
        self.send("Page.navigate", url=path.as_uri())
        self.until(f"location.href === {json.dumps(path.as_uri())} && document.readyState === 'complete'")
        self.settle()
        return self

    def look(self, scheme="light", media=""):
        """Light or dark, and "print" for paper."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        self.settle()

    def settle(self):
        """Two frames: what was asked for was laid out and painted."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def run(self, expression):
        """What an expression of JavaScript is, promises awaited, as JSON."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression):
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(expression):
            assert time.monotonic() < deadline, expression

    def box(self, selector):
        """Where the first element that matches lies on the page: left, top, width, height in pixels."""
        return self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [box.x + scrollX, box.y + scrollY, box.width, box.height]; })()"
        )

    def click(self, selector):
        """A real click in the middle of an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        self.settle()
        left, top, width, height = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [box.x, box.y, box.width, box.height]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=left + width / 2,
                y=top + height / 2,
                button="none" if kind == "mouseMoved" else "left",
                clickCount=0 if kind == "mouseMoved" else 1,
            )
        self.settle()

    def press(self, key, code=0):
        """A key, as the keyboard sends it."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        self.settle()

    def type(self, text):
        """Text, into what has the focus."""
        self.send("Input.insertText", text=text)
        self.settle()

    def screenshot(self, selector=None):
        """A PNG of an element, or of the whole page."""
        if selector is None:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            left, top, width, height = 0, 0, size["width"], size["height"]
        else:
            left, top, width, height = self.box(selector)
        clip = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        found = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(found["data"])

    def pixels(self, selector):
        """The colours of an element, as it is painted: uint8 of shape (height, width, 3)."""
        png = base64.b64encode(self.screenshot(selector)).decode()
        width, height, colours = self.run(_DECODE.format(png))
        return np.frombuffer(base64.b64decode(colours), np.uint8).reshape(height, width, 4)[:, :, :3]

    def pdf(self):
        """The page on paper."""
        found = self.send("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        return base64.b64decode(found["data"])


class Browser:
    """A running Chromium; `page` opens a tab."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = iter(range(1, 1 << 30))
        self._pages = {}

    def send(self, method, session=None, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            page = self._pages.get(answer.get("sessionId"))
            if page is not None and "method" in answer:
                page.hear(answer)

    @contextmanager
    def page(self):
        """A tab of its own."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page.__new__(Page)
        self._pages[session] = page
        page.__init__(self, session)
        try:
            yield page
        finally:
            del self._pages[session]
            self.send("Target.closeTarget", targetId=target)


@contextmanager
def chromium():
    """A browser, which ends with the block, and its children and files with it."""
    path = program("chromium")
    # Not in a test's own directory: the path of its socket has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="chromium-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "HOME": folder, "TMPDIR": folder, "XDG_CONFIG_HOME": folder}
        command = [path, *_OPTIONS, f"--user-data-dir={folder}/profile", "about:blank"]
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            with connect(_address(process, Path(folder)), max_size=None, compression=None) as socket:
                browser = Browser(socket)
                yield browser
                browser.send("Browser.close")
            process.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


def _address(process, folder):
    """Where it listens: it writes port and path to a file once it does."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(FileNotFoundError, ValueError):
            port, path = (folder / "profile" / "DevToolsActivePort").read_text().split()
            return f"ws://127.0.0.1:{port}{path}"
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError((folder / "log").read_text(errors="replace"))
        time.sleep(0.02)
