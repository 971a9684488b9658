"""Log who was denied, and who changed something."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from datamodels.errors import AccessError
from datamodels.telemetry import logger

log = logger(__name__)


def denied(scope: MutableMapping[str, Any], error: Exception) -> None:
    """Log a request that was refused, if it was for want of a token or of a right."""
    if isinstance(error, AccessError):
        log.warning("denied", reason=str(error), **_who(scope))


def written(scope: MutableMapping[str, Any]) -> None:
    """Log a request that has changed something."""
    log.info("audit", **_who(scope))


def _who(scope: MutableMapping[str, Any]) -> dict[str, str]:
    host, port = scope.get("client") or ("", "")
    user = scope.get("state", {}).get("user", "")
    found = {"method": scope["method"], "path": scope["path"], "caller": user, "peer": f"{host}:{port}"}
    return {name: text[:200] for name, text in found.items() if text}
