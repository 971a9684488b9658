"""Drive a Chromium by its DevTools protocol over two pipes, which needs no port and no library."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time

from tests.helpers.waiting import LIMIT

PATH = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """A page of a headless Chromium. It keeps what the console and the network say, until `visit` begins anew."""

    def __init__(self, send: int, receive: int):
        self._send, self._receive, self._buffer, self._number = send, receive, b"", 0
        self.errors, self.requests = [], []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    def _read(self) -> dict:
        while b"\0" not in self._buffer:
            assert select.select([self._receive], [], [], LIMIT)[0], "Chromium does not answer"
            data = os.read(self._receive, 2**20)
            assert data, "Chromium has ended"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _call(self, method: str, **params):
        self._number += 1
        session = {"sessionId": self._session} if getattr(self, "_session", None) else {}
        message = {"id": self._number, "method": method, "params": params} | session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._keep(answer.get("method"), answer.get("params", {}))
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _keep(self, method: str | None, params: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"])

    def look(self, width: int, height: int, scheme: str = "light", media: str = "screen") -> None:
        """Set the size of the window, whether it is light or dark, and whether it is a screen or printed."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def visit(self, address: str, until: str) -> None:
        """Go to an address, and wait until an expression is true."""
        self.errors, self.requests = [], []
        self._call("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && ({until})")

    def wait(self, until: str) -> None:
        """Wait until an expression of JavaScript is true."""
        end = time.monotonic() + LIMIT
        while not self.run(f"Boolean({until})"):
            assert time.monotonic() < end, (until, self.errors, self.run("document.body.innerText"))
            time.sleep(0.05)

    def run(self, expression: str):
        """Return the value of an expression of JavaScript, awaited."""
        found = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, and let go of it."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        arrows = {f"Arrow{way}": 37 + i for i, way in enumerate(("Left", "Up", "Right", "Down"))}
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "End": 35} | arrows
        code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        fields = {"key": key, "windowsVirtualKeyCode": code}
        self._call("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": text} if text else {}))
        self._call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place, move it over the others, and let go at the last."""
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        steps = [("mouseMoved", places[0], {}), ("mousePressed", places[0], held)]
        steps += [("mouseMoved", place, held) for place in places[1:]]
        for kind, (x, y), fields in [*steps, ("mouseReleased", places[-1], held | {"buttons": 0})]:
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **fields)

    def picture(self) -> str:
        """Return a screenshot of the window, a PNG in base64."""
        return self._call("Page.captureScreenshot")["data"]


@contextlib.contextmanager
def opened(folder):
    """Yield a Browser; its profile is in the folder."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-background-networking"]
    with contextlib.ExitStack() as stack:
        (read, send), (receive, write) = os.pipe(), os.pipe()
        stack.callback(os.close, receive)
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        for end, wanted in ((read, 3), (write, 4)):  # where Chromium expects them; first out of the way of each other
            away = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
            os.close(end)
            stack.callback(os.close, away)
            actions.append((os.POSIX_SPAWN_DUP2, away, wanted))
        process = os.posix_spawn(PATH, [PATH, *options], os.environ, file_actions=actions)
        stack.callback(os.waitpid, process, 0)
        stack.callback(os.kill, process, signal.SIGKILL)  # its profile is thrown away
        stack.callback(os.close, send)
        yield Browser(send, receive)
