"""Decide who may ask the explorer, and add the headers that keep a page from running or loading anything foreign."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from datamodels import screen
from datamodels.errors import DatamodelsError, DeniedError, InputError, SettingsError, TokenError
from datamodels.rpc.access import GROUP, Caller, readers_of
from datamodels.settings import ExplorerSettings

from . import audit
from .problems import response_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH, LIVE = "/healthz", "/livez"
"""Paths of the probes: of the service with its store, and of the process. They need no token, and any host will do, for
the kubelet asks by address."""
MOST_BODY = 2**20
"""Largest body of a request, in bytes."""
RUNS, COMPARISON = "/api/v1/runs", "/api/v1/comparison"
"""Paths of what is about a run: it is named below the first, and in the query of the second."""
SHORTEST_TOKEN = 16
COOKIE = "datamodels-explorer"
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Content security policy: only files of this server, and no script or style within a page."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Gate:
    """Lets requests through to an application if they may pass; an ASGI middleware.

    A request needs a host that is known, so that a foreign page cannot reach this server under a name of its own (DNS
    rebinding), and the token or, behind a proxy, the name of a user. What changes anything must come from a page of
    this server.
    """

    def __init__(self, app: App, settings: ExplorerSettings, *, secure: bool = False):
        if not settings.token and not settings.user_header:
            raise SettingsError(
                f"{settings.prefix}_TOKEN: is missing, and so is {settings.prefix}_USER_HEADER; set one, or anybody "
                "could read the store"
            )
        if settings.token and len(settings.token) < SHORTEST_TOKEN:
            raise SettingsError(f"{settings.prefix}_TOKEN: must have at least {SHORTEST_TOKEN} letters")
        if settings.user_header and not settings.hosts:
            raise SettingsError(f"{settings.prefix}_HOSTS: must name the hosts by which the proxy is reached")
        if settings.readers and not settings.user_header:
            raise SettingsError(f"{settings.prefix}_READERS: needs {settings.prefix}_USER_HEADER, which names users")
        screen.hide([settings.token])
        self._readers = readers_of(settings.readers, f"{settings.prefix}_READERS")
        self._app, self._settings, self._secure = app, settings, secure
        self._hosts = {host.strip().lower() for host in settings.hosts.split(",") if host.strip()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send)
        if scope["path"] in (HEALTH, LIVE):
            await self._app(scope, receive, send)
            return
        headers = _Headers(scope["headers"])
        try:
            host = self._host(headers)
            _require_own_page(scope["method"], host, headers)
            if (target := self._first_visit(scope)) is not None:
                await _redirect(send, target, self._cookie(host))
                return
            state = scope.setdefault("state", {})
            state["user"] = self._user(headers, host)
            caller = self._caller(state["user"], headers)
            state["may_read"] = caller.may_read
            _require_readable(caller, scope)
            _require_small(headers)
        except DatamodelsError as error:
            audit.denied(scope, error)
            await response_of(error)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)

    def _host(self, headers: _Headers) -> str:
        host = headers.one("host").lower()
        name = _without_port(host)
        loopback = not self._settings.user_header and _is_loopback(name)
        if not loopback and name not in self._hosts and host not in self._hosts:
            raise DeniedError(
                f"host {host!r:.100}: is not served here; name it in {self._settings.prefix}_HOSTS if it should be"
            )
        return host

    def _first_visit(self, scope: Scope) -> str | None:
        """Return where to send a browser that comes with the right token in the address; None if none comes so."""
        query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if scope["method"] != "GET" or not given or not self._settings.token:
            return None
        if not _same(given[0], self._settings.token):
            raise TokenError("token: is wrong; take the address that `datamodels explore` prints")
        rest = urllib.parse.urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + urllib.parse.quote(scope["path"]).lstrip("/")  # never //host
        return path + (f"?{rest}" if rest else "")

    def _user(self, headers: _Headers, host: str) -> str:
        """Return the name of the user; empty if nobody is named. Raises TokenError."""
        if self._settings.user_header:
            user = headers.one(self._settings.user_header.lower()).strip()
            if user:
                return user[:200]
        if self._settings.token:
            bearer = headers.one("authorization").partition(" ")
            if bearer[0].lower() == "bearer" and _same(bearer[2].strip(), self._settings.token):
                return ""
            if _same(_cookie_of(headers.all("cookie"), _cookie_name(host)), self._proof):
                return ""
        how = "sign in at the proxy in front of it" if self._settings.user_header else "open the address with its token"
        raise TokenError(f"the caller is not identified; {how}")

    def _caller(self, user: str, headers: _Headers) -> Caller:
        """Return the caller with the runs that they may read: all if the setting names no readers."""
        if not self._settings.readers or not user:
            return Caller(user, (), ("*",))
        given = headers.one(self._settings.groups_header.lower()) if self._settings.groups_header else ""
        groups = [f"{GROUP}{name.strip()}" for name in given.split(",") if name.strip()]
        return Caller(user, (), tuple(p for name in (user, *groups) for p in self._readers.get(name, ())))

    @property
    def _proof(self) -> str:
        """What the cookie holds: it shows that the browser had the token, which it does not reveal."""
        return hmac.new(self._settings.token.encode(), b"cookie", hashlib.sha256).hexdigest()

    def _cookie(self, host: str) -> str:
        secure = "; Secure" if self._secure else ""
        return f"{_cookie_name(host)}={self._proof}; Path=/; HttpOnly; SameSite=Strict{secure}"


class _Headers:
    def __init__(self, raw: Iterable[tuple[bytes, bytes]]):
        self._found = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]

    def all(self, name: str) -> list[str]:
        return [value for found, value in self._found if found == name]

    def one(self, name: str) -> str:
        """Return a header; empty if it is absent, or given twice: then nobody knows which counts."""
        values = self.all(name)
        return values[0] if len(values) == 1 else ""


def _require_own_page(method: str, host: str, headers: _Headers) -> None:
    """Raise DeniedError if a request that changes something comes from a page of another origin."""
    if method in SAFE:
        return
    origin, site = headers.one("origin"), headers.one("sec-fetch-site")
    if (origin and urllib.parse.urlsplit(origin).netloc.lower() != host) or site not in ("", "same-origin", "none"):
        raise DeniedError("the request comes from another page; open the explorer itself")
    if headers.one("content-type").partition(";")[0].strip() != "application/json":
        raise InputError("content-type: must be application/json")


def _require_readable(caller: Caller, scope: Scope) -> None:
    """Raise DeniedError if a request is about a run that the caller may not read, whether the store has it or not."""
    parts = scope["path"].split("/")
    runs = parts[4:5] if "/".join(parts[:4]) == RUNS else []
    if scope["path"] == COMPARISON:
        query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"))
        runs = [value.partition("@")[0] for name, value in query if name in ("one", "other")]
    for run in filter(None, runs):
        if not caller.may_read(run):
            raise DeniedError(f"{caller.subject!r:.200} may not read run {run!r:.200}; ask whoever runs the explorer")


def _require_small(headers: _Headers) -> None:
    length = headers.one("content-length")
    if length and (not length.isdecimal() or int(length) > MOST_BODY):
        raise InputError(f"content-length: is {length[:20]}, at most {MOST_BODY} bytes are accepted")


def _bounded(receive: Receive) -> Receive:
    """Return `receive`, which ends the request after MOST_BODY bytes, whatever their length was said to be."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= MOST_BODY else {"type": "http.disconnect"}

    return bounded


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", [])}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given]
            if b"cache-control" not in given:
                added.append((b"cache-control", b"no-store"))
            message["headers"] = [*message.get("headers", []), *added]
        await send(message)

    return sent


async def _redirect(send: Send, path: str, cookie: str) -> None:
    headers = [
        (b"location", path.encode("latin-1")),
        (b"set-cookie", cookie.encode("latin-1")),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _cookie_name(host: str) -> str:
    """Return a name for each port: browsers send cookies of one port of a host to all of them."""
    port = host.rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isdecimal() else COOKIE


def _cookie_of(values: Iterable[str], name: str) -> str:
    for value in values:
        try:
            cookies = SimpleCookie(value)
        except CookieError:
            continue
        if name in cookies:
            return cookies[name].value
    return ""


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
