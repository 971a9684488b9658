"""Answer with errors as problem JSON (RFC 9457). Each error knows its status; see datamodels.errors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from datamodels.errors import BusyError, DatamodelsError, InputError, UnavailableError, one_line
from datamodels.screen import plain
from datamodels.telemetry import logger

from . import audit

log = logger(__name__)

MEDIA = "application/problem+json"


def response_of(error: DatamodelsError) -> Response:
    """Return the answer for an error."""
    headers = {"retry-after": "5"} if isinstance(error, UnavailableError | BusyError) else None
    return _response(type(error).__name__, error.http_status, plain(str(error)), error.grpc_code, headers)


def _response(title: str, status: int, detail: str, code: str, headers: dict[str, str] | None = None) -> Response:
    body = {"type": f"urn:datamodels:{title}", "title": title, "status": status, "detail": detail, "code": code}
    return JSONResponse(body, status, headers, media_type=MEDIA)


def handle(app: FastAPI) -> None:
    """Let an application answer all errors so."""

    def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, DatamodelsError)
        audit.denied(request.scope, error)
        if error.http_status >= 500:
            log.error(str(error), error=type(error).__name__, path=request.url.path)
        return response_of(error)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response_of(InputError("; ".join(map(_fault, error.errors()[:5]))))

    def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "NOT_FOUND", 405: "UNIMPLEMENTED"}.get(error.status_code, "INVALID_ARGUMENT")
        return _response(
            "NoSuchPath", error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}", code
        )

    def unknown(request: Request, error: Exception) -> Response:
        log.error("request failed", path=request.url.path, reason=one_line(error), exc_info=error)
        return _response("InternalError", 500, "the explorer failed; its log says why", "INTERNAL")

    app.add_exception_handler(DatamodelsError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, unknown)


def _fault(fault: dict) -> str:
    """Say what is wrong with a field, without what was given: it may be megabytes."""
    where = ".".join(str(part) for part in fault["loc"] if part not in ("query", "body", "path"))
    return f"{where or 'body'}: {fault['msg'].lower()[:200]}"
