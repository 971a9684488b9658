"""Send and check the bearer tokens of runs, which decide who may write to which run.

The pods of a run have a token that Kubernetes signed for their service account. Its audience is that run, and it is
valid for about an hour; the kubelet renews its file. A service that requires tokens checks signature, issuer, expiry
and account, and that the run of each call is the run of the token. For that it needs only the issuer's public keys and
no rights in the cluster. A TokenReview would need a cluster-wide right (system:auth-delegator). The disadvantage is
that the token of a deleted pod remains valid until it expires.
"""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from datamodels.errors import DeniedError, SettingsError, TokenError, UnavailableError
from datamodels.settings import AuthSettings, ClientSettings
from datamodels.telemetry import logger

log = logger(__name__)

HEADER = "authorization"
SCHEME = "Bearer "
AUDIENCE = "datamodels"
TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""Form of a bearer token (RFC 6750)."""
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
"""Accepted signature algorithms: those that API servers use, all with public keys."""
LEEWAY = 30.0
"""Seconds by which clocks may differ."""
KEEP_SECONDS = 300.0
"""Seconds after which keys are reread, so that a withdrawn key is soon rejected."""
RETRY_SECONDS = 15.0
"""Shortest time in seconds between two attempts to read keys, if a key is unknown or an attempt failed."""
ACCEPT = "application/json, application/jwk-set+json"
"""Accept header for the API server, which otherwise answers 406."""
TIMEOUT = 5.0
"""Seconds that the API server may take to answer."""


def audience(run: str) -> str:
    """Return the audience of a run's tokens."""
    return f"{AUDIENCE}/{run}"


def header(token_file: str) -> tuple[str, str]:
    """Read a token from a file and return the metadata that sends it. Raises SettingsError if there is none."""
    variable = f"{ClientSettings.prefix}_TOKEN_FILE={token_file}"
    token = _text(token_file, variable).strip()
    if not token:
        raise SettingsError(f"{variable}: is empty")
    if not TOKEN.fullmatch(token):  # gRPC would show it in its error
        raise SettingsError(f"{variable}: is not a bearer token: one line of letters, digits and -._~+/=")
    return HEADER, SCHEME + token


def _text(path: str, variable: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{variable}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{variable}: is not text") from error


@dataclasses.dataclass(frozen=True)
class Caller:
    """The account that a token was issued to, and the runs that it is valid for."""

    subject: str
    runs: tuple[str, ...]

    def check(self, run: str) -> None:
        """Raise DeniedError if the token is not valid for this run."""
        if run not in self.runs:
            raise DeniedError(f"the token is for run {', '.join(self.runs)}, not for {run!r:.200}")


class Keys:
    """Public keys of an issuer by their ids. They are reread after KEEP_SECONDS, and if a key is unknown.

    `read` returns a JSON Web Key Set (RFC 7517). Two calls of it are at least `retry` seconds apart.
    """

    def __init__(self, read: Callable[[], Any], retry: float = RETRY_SECONDS):
        self._read = read
        self._retry = retry
        self._lock = threading.Lock()
        self._keys = self._fetch()
        self._read_at = self._tried_at = time.monotonic()

    def key(self, name: str) -> Any:
        """Return the key of this id as a jwt.PyJWK. Raises TokenError if no such key is known."""
        with self._lock:
            now = time.monotonic()
            wanted = name not in self._keys or now - self._read_at > KEEP_SECONDS
            if wanted and now - self._tried_at >= self._retry:
                try:
                    self._keys, self._read_at = self._fetch(), now
                except (SettingsError, UnavailableError) as error:
                    log.warning("keys not reread", reason=str(error))
                self._tried_at = time.monotonic()
            if name not in self._keys:
                raise TokenError("the bearer token is not accepted: its signing key is not one of the issuer's keys")
            return self._keys[name]

    def _fetch(self) -> dict[str | None, Any]:
        import jwt

        try:
            return {key.key_id: key for key in jwt.PyJWKSet.from_dict(self._read()).keys}
        except (jwt.PyJWTError, AttributeError, TypeError, ValueError, KeyError) as error:
            raise SettingsError(f"{AuthSettings.prefix}_KEYS: has no JSON web keys: {error}") from error


class Guard:
    """Checks the tokens of calls.

    keys      public keys of the issuer
    issuer    required claim `iss`
    subjects  accepted claims `sub`; needed because any account of a cluster can request a token for any audience
    """

    def __init__(self, keys: Keys, issuer: str, subjects: Iterable[str]):
        self._keys = keys
        self._issuer = issuer
        self._subjects = frozenset(subjects)

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return the caller of a call with this metadata.

        Raises TokenError, DeniedError. Their messages never contain the token.
        """
        shown = [str(value) for name, value in metadata if name == HEADER]
        if len(shown) != 1 or not shown[0].startswith(SCHEME):
            raise TokenError(
                f"this service requires a bearer token of the run; set {ClientSettings.prefix}_TOKEN_FILE to its file"
            )
        claims = self._claims(shown[0].removeprefix(SCHEME))
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        prefix = audience("")
        runs = tuple(a.removeprefix(prefix) for a in map(str, audiences) if a.startswith(prefix))
        if not runs:
            raise TokenError(f"the bearer token is not accepted: its audience is not {audience('RUN')}")
        if claims["sub"] not in self._subjects:
            variable = f"{AuthSettings.prefix}_SUBJECTS"
            raise DeniedError(f"{claims['sub']!r:.200} may not use this service; its {variable} names who may")
        return Caller(claims["sub"], runs)

    def gate(self, run_of: Callable[[Any], str]) -> Callable[[Iterable[Any]], Callable[[Any], None]]:
        """Return the check of one service's calls: it takes a call's metadata, then the call's first message."""

        def enter(metadata: Iterable[Any]) -> Callable[[Any], None]:
            caller = self.caller(metadata)
            return lambda message: caller.check(run_of(message))

        return enter

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        try:
            key = self._keys.key(jwt.get_unverified_header(token).get("kid", ""))
            return jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "sub", "aud"], "verify_aud": False},  # `caller` checks the audience
            )
        except jwt.ExpiredSignatureError:
            reason = "it has expired"
        except jwt.ImmatureSignatureError:
            reason = "it is not valid yet"
        except jwt.InvalidIssuerError:
            reason = f"it was not issued by {self._issuer}"
        except jwt.MissingRequiredClaimError as error:
            reason = f"it has no claim {error.claim}"
        except jwt.InvalidSignatureError:
            reason = "its signature is wrong"
        except jwt.PyJWTError:  # its message may contain parts of the token
            reason = "it is not a JSON web token, or its signature algorithm is not accepted"
        raise TokenError(f"the bearer token is not accepted: {reason}")


def guard(settings: AuthSettings) -> Guard | None:
    """Return the guard that the settings ask for, or None if no tokens are required.

    Raises SettingsError, and UnavailableError if the API server does not answer.
    """
    if not settings.keys:
        return None
    try:
        import cryptography  # noqa: F401 - jwt needs it to check signatures
        import jwt  # noqa: F401
    except ImportError as error:
        raise SettingsError("packages for tokens are missing; install datamodels-ml[auth]") from error
    subjects = [subject.strip() for subject in settings.subjects.split(",")]
    if not settings.keys.startswith("https://"):
        return Guard(Keys(lambda: _read_file(settings.keys)), settings.issuer, subjects)
    server = settings.keys.rstrip("/")
    issuer = settings.issuer or _ask(f"{server}/.well-known/openid-configuration", settings).get("issuer", "")
    if not issuer:
        raise SettingsError(f"{server}: does not say who issues its tokens; set {AuthSettings.prefix}_ISSUER")
    return Guard(Keys(lambda: _ask(f"{server}/openid/v1/jwks", settings)), issuer, subjects)


def _read_file(path: str) -> Any:
    variable = f"{AuthSettings.prefix}_KEYS={path}"
    try:
        return json.loads(_text(path, variable))
    except ValueError as error:
        raise SettingsError(f"{variable}: is not JSON: {error}") from error


def _ask(url: str, settings: AuthSettings) -> Any:
    """Get JSON from the API server. Every service account may (system:service-account-issuer-discovery)."""
    token = _text(settings.token_file, f"{AuthSettings.prefix}_TOKEN_FILE={settings.token_file}").strip()
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise SettingsError(f"{AuthSettings.prefix}_CA_FILE={settings.ca_file}: {error}") from error
    request = urllib.request.Request(url, headers={"Authorization": SCHEME + token, "Accept": ACCEPT})
    # No proxy, because a proxy must not see the token.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{url}: cannot be read: {error}") from error
