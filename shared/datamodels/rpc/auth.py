"""Send and check the bearer tokens of runs and of readers.

The pods of a run have a token that Kubernetes signed for their service account. Its audience is that run, and it is
valid for about an hour; the kubelet renews its file. A service that requires tokens checks signature, issuer, expiry
and account, and that the run of each call is the run of the token. For that it needs only the issuer's public keys and
no rights in the cluster. A TokenReview would need a cluster-wide right (system:auth-delegator). The disadvantage is
that the token of a deleted pod remains valid until it expires.

Readers have a token for the audience `datamodels`, or that of the setting, from the same issuer, which may be any that
publishes its keys as OpenID Connect says. `access` decides what callers may do.
"""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datamodels.errors import DeniedError, SettingsError, TokenError, UnavailableError
from datamodels.rpc.access import GROUP, Caller, readers_of
from datamodels.settings import AuthSettings, ClientSettings
from datamodels.telemetry import logger

log = logger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
"""Path at which an OpenID issuer says who it is, and where its keys are."""
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
        keys = self._keys
        if name in keys and self._lock.locked():  # somebody rereads them, and the issuer may hang
            return keys[name]
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


@dataclasses.dataclass(frozen=True)
class Issuer:
    """Who signs tokens: the required claim `iss`, and the public keys."""

    name: str
    keys: Keys


class Guard:
    """Checks the tokens of calls.

    runs        issuer of the tokens of runs; None if there are none
    subjects    accepted claims `sub` of these; needed because any account of a cluster can request a token for any
                audience
    readers     {subject, or `group:NAME`: patterns of the names of runs} that may be read with a token for `audience`
    of_readers  issuer of their tokens; by default that of the tokens of runs
    """

    def __init__(
        self,
        runs: Issuer | None,
        subjects: Iterable[str],
        readers: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
        of_readers: Issuer | None = None,
        audience: str = AUDIENCE,
    ):
        self._runs = runs
        self._subjects = frozenset(subjects)
        self._readers = readers
        self._of_readers = of_readers or runs
        self._audience = audience

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return the caller of a call with this metadata.

        Raises TokenError, DeniedError. Their messages never contain the token.
        """
        shown = [str(value) for name, value in metadata if name == HEADER]
        if len(shown) != 1 or not shown[0].startswith(SCHEME):
            raise TokenError(
                f"this service requires a bearer token of the run; set {ClientSettings.prefix}_TOKEN_FILE to its file"
            )
        claims, issuer = self._claims(shown[0].removeprefix(SCHEME))
        subject = str(claims["sub"])
        audiences = list(map(str, claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]))
        prefix = audience("")
        runs = tuple(a.removeprefix(prefix) for a in audiences if a.startswith(prefix) and issuer is self._runs)
        reads = bool(self._readers) and self._audience in audiences and issuer is self._of_readers
        if not runs and not reads:
            wanted = [
                *([audience("RUN")] if issuer is self._runs else []),
                *([self._audience] if self._readers else []),
            ]
            raise TokenError(f"the bearer token is not accepted: its audience is not {' or '.join(wanted)}")
        found = Caller(
            subject,
            runs if subject in self._subjects else (),
            self._patterns(subject, claims.get("groups")) if reads else (),
        )
        if not found.runs and not found.patterns:
            variable = f"{AuthSettings.prefix}_{'READERS' if reads else 'SUBJECTS'}"
            raise DeniedError(f"{subject!r:.200} may not use this service; its {variable} names who may")
        return found

    def _patterns(self, subject: str, groups: Any) -> tuple[str, ...]:
        names = [subject, *(f"{GROUP}{group}" for group in (groups if isinstance(groups, list) else []))]
        if subject.startswith(GROUP):  # a subject must not pass for a group
            names.pop(0)
        return tuple(pattern for name in names for pattern in self._readers.get(name, ()))

    def _claims(self, token: str) -> tuple[dict[str, Any], Issuer]:
        """Return the claims of a token and the issuer that signed it."""
        import jwt

        issuers = {issuer.name: issuer for issuer in (self._of_readers, self._runs) if issuer is not None}
        try:
            # Which keys may verify it is up to what it says; the keys then decide whether it says the truth.
            said = jwt.decode(token, options={"verify_signature": False}).get("iss")
            issuer = issuers.get(said) if isinstance(said, str) else None
            issuer = issuer or next(iter(issuers.values()))
            key = issuer.keys.key(jwt.get_unverified_header(token).get("kid", ""))
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                issuer=issuer.name,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "sub", "aud"], "verify_aud": False},  # `caller` checks the audience
            )
            return claims, issuer
        except jwt.ExpiredSignatureError:
            reason = "it has expired"
        except jwt.ImmatureSignatureError:
            reason = "it is not valid yet"
        except jwt.InvalidIssuerError:
            reason = f"it was not issued by {' or '.join(issuers)}"
        except jwt.MissingRequiredClaimError as error:
            reason = f"it has no claim {error.claim}"
        except jwt.InvalidSignatureError:
            reason = "its signature is wrong"
        except (jwt.PyJWTError, RecursionError):  # its message may contain parts of the token
            reason = "it is not a JSON web token, or its signature algorithm is not accepted"
        raise TokenError(f"the bearer token is not accepted: {reason}")


def guard(settings: AuthSettings) -> Guard | None:
    """Return the guard that the settings ask for, or None if no tokens are required.

    Raises SettingsError, and UnavailableError if the API server does not answer.
    """
    if not settings.keys and not settings.reader_keys:
        return None
    try:
        import cryptography  # noqa: F401 - jwt needs it to check signatures
        import jwt  # noqa: F401
    except ImportError as error:
        raise SettingsError("packages for tokens are missing; install datamodels-ml[auth]") from error
    runs = _issuer("keys", settings.keys, settings.issuer, settings) if settings.keys else None
    given = settings.reader_keys, settings.reader_issuer
    of_readers = _issuer("reader_keys", *given, settings) if settings.reader_keys else None
    subjects = filter(None, map(str.strip, settings.subjects.split(",")))
    return Guard(runs, subjects, readers_of(settings.readers), of_readers, settings.audience)


def _issuer(field: str, place: str, name: str, settings: AuthSettings) -> Issuer:
    """Return the issuer whose keys are at a place: a JWKS file, an OpenID issuer, or an API server."""
    if not place.startswith("https://"):
        return Issuer(name, Keys(lambda: _read_file(f"{AuthSettings.prefix}_{field.upper()}={place}", place)))
    if place.endswith(DISCOVERY):
        return _openid(place, name, settings.ca_file if settings.ca_file != AuthSettings.ca_file else None)
    server = place.rstrip("/")
    found = name or _ask(f"{server}{DISCOVERY}", settings).get("issuer", "")
    if not found:
        raise SettingsError(f"{server}: does not say who issues its tokens; set {AuthSettings.prefix}_ISSUER")
    return Issuer(found, Keys(lambda: _ask(f"{server}/openid/v1/jwks", settings)))


def _openid(place: str, name: str, ca_file: str | None) -> Issuer:
    """Return an OpenID issuer, which says where its keys are. It is sent no token of ours."""
    found = _get(place, {}, ca_file)
    issuer, url = (str(found.get(field, "")) for field in ("issuer", "jwks_uri"))
    if issuer != (name or issuer) or f"{issuer.rstrip('/')}{DISCOVERY}" != place:
        raise SettingsError(
            f"{place}: says that its issuer is {issuer!r:.200}, which is not at this address, or not meant"
        )
    if not url.startswith("https://"):
        raise SettingsError(f"{place}: its jwks_uri {url!r:.200} is not https://...")
    return Issuer(issuer, Keys(lambda: _get(url, {}, ca_file)))


def _read_file(variable: str, path: str) -> Any:
    try:
        return json.loads(_text(path, variable))
    except ValueError as error:
        raise SettingsError(f"{variable}: is not JSON: {error}") from error


def _ask(url: str, settings: AuthSettings) -> Any:
    """Get JSON from the API server. Every service account may (system:service-account-issuer-discovery)."""
    token = _text(settings.token_file, f"{AuthSettings.prefix}_TOKEN_FILE={settings.token_file}").strip()
    return _get(url, {"Authorization": SCHEME + token}, settings.ca_file)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: they would take the token elsewhere, or keys from where no certificate is checked."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _get(url: str, headers: Mapping[str, str], ca_file: str | None) -> Any:
    """Get JSON. ca_file: a PEM file with authorities; None for those of the system."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(f"{AuthSettings.prefix}_CA_FILE={ca_file}: {error}") from error
    request = urllib.request.Request(url, headers={"Accept": ACCEPT, **headers})
    # No proxy, because a proxy must not see the token.
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirects()
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return json.load(response)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{url}: cannot be read: {error}") from error
