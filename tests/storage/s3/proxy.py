"""A proxy before an S3 server that makes some requests go wrong."""

import contextlib
import http.client
import http.server
import socket
import struct
import threading
import time
import urllib.parse

from tests.helpers.memory import flipped
from tests.helpers.waiting import LIMIT

FORWARD = "forward"
LOSE_ANSWER = "lose the answer"
CUT_ANSWER = "cut the answer"
FLIP_BIT = "flip a bit of the answer"
RESET = "reset the connection"
STALL = "do not answer"
SLOW = "answer slowly"
DUPLICATE = "send the request twice"
FOREIGN = "answer as something else than the store"
SIGNED = [("x-amz-request-id", "by-test")]
"""Headers of each answer of a store."""


class Proxy:
    """Forwards requests to a server. `faults` lists, by HTTP method, what happens to the next requests instead.

        LOSE_ANSWER     the request is forwarded, and the connection is closed without an answer
        CUT_ANSWER      the connection is closed halfway through the answer's body
        FLIP_BIT        the answer's body is altered on the way
    RESET           the request is not forwarded, and the connection is reset
        STALL           the request is not forwarded, and not answered before the client leaves
        SLOW            the answer comes in pieces, within a second
        DUPLICATE       the request is forwarded twice, and the second answer is returned
        FOREIGN         the request is not forwarded, and is answered with 404 as by a proxy whose server is away
        (status, code)  the request is not forwarded, and is answered with this error, as by the store

        `rule` may answer any other request with an error: a function of the request that returns (status, code) or
        None.
        `rewrite` changes the headers of answers: a function of their list of (name, value).
    """

    def __init__(self, server: str):
        self.server = urllib.parse.urlsplit(server).netloc
        self.faults: dict[str, list] = {}
        self.seen: list[str] = []
        self.connections: list[int] = []
        self.rule = lambda request: None
        self.rewrite = lambda headers: headers
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.handle(self, body)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """Say nothing: clients leave connections that go wrong."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def handle(self, request, body: bytes) -> None:
        self.seen.append(request.command)
        self.connections.append(request.client_address[1])
        waiting = self.faults.get(request.command, [])
        fault = waiting.pop(0) if waiting else self.rule(request) or FORWARD
        if isinstance(fault, tuple):
            status, code = fault
            self.answer(
                request, status, SIGNED, f"<Error><Code>{code}</Code><Message>by test</Message></Error>".encode()
            )
            return
        if fault == FOREIGN:
            self.answer(request, 404, [], b"no such page")
            return
        if fault == RESET:  # to linger for no time makes the system send a reset instead of an end
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close_connection = True
            request.connection.close()
            return
        if fault == STALL:
            with contextlib.suppress(OSError):
                request.connection.settimeout(LIMIT)
                request.connection.recv(1)
            request.close_connection = True
            return
        for _ in range(2 if fault == DUPLICATE else 1):
            connection = http.client.HTTPConnection(self.server, timeout=LIMIT)
            connection.request(request.command, request.path, body, dict(request.headers.items()))
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
        if fault == FLIP_BIT and data:
            data = flipped(data, 3)
        if fault == LOSE_ANSWER:
            request.close_connection = True
            return
        self.answer(request, answer.status, self.rewrite(answer.getheaders()), data, fault == CUT_ANSWER, fault == SLOW)

    @staticmethod
    def answer(request, status, headers, data, cut=False, slow=False):
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "connection", "transfer-encoding", "date", "server"}:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            data = data[: len(data) // 2] if cut else data
            piece = max(1, len(data) // 5) if slow else max(1, len(data))
            for first in range(0, len(data), piece):
                time.sleep(0.1 * slow)
                request.wfile.write(data[first : first + piece])
        if cut:
            request.wfile.flush()
            request.close_connection = True

    def reset(self):
        self.__dict__.update(faults={}, seen=[], connections=[], rule=lambda _: None, rewrite=lambda headers: headers)

    def close(self):
        self._server.shutdown()
        self._server.server_close()
