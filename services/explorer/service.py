"""Build the explorer's application: pages and a JSON API over the store. It runs no code that a run names."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse

from datamodels.errors import NotFoundError
from datamodels.explore import models
from datamodels.explore.opened import Explorer
from datamodels.explore.views import PREFIX
from datamodels.query.weights import WeightStore
from datamodels.settings import ExplorerSettings

from . import access, problems
from .analyses import Analyses, analyses_router
from .lists import fits_router, looks_router, runs_router
from .metrics import Measured
from .questions import questions_router
from .review import review_router
from .streams import Streams
from .verifying import Jobs, verifying_router

DESCRIPTION = """\
Reads the runs of a store: which training examples made the model say this? Numbers are in the units of the run's output
unless a field says otherwise. Errors are problem JSON (RFC 9457). Send the token as `Authorization: Bearer TOKEN`.
"""
WEB = Path(str(resources.files("datamodels.explore") / "static"))
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclasses.dataclass(frozen=True)
class Application:
    """The explorer.

    asgi         what a server of ASGI calls
    end_streams  ends all streams of events; call it when the server stops
    """

    asgi: access.App
    end_streams: Callable[[], None]


def application(weights: WeightStore, settings: ExplorerSettings, *, secure: bool = False) -> Application:
    """Return the application. Raises SettingsError if anybody could use it.

    secure  whether it is served by HTTPS
    """
    explorer, analyses, streams = Explorer(weights), Analyses(weights), Streams()
    jobs = Jobs(settings.verify)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(analyses.close)
        await run_in_threadpool(jobs.close)

    app = FastAPI(
        title="datamodels explorer",
        version="1",
        description=DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_operation,
        responses={"4XX": {"model": models.Problem}, "5XX": {"model": models.Problem}},
    )
    problems.handle(app)
    for router in (
        runs_router(explorer, streams, settings.price),
        looks_router(explorer),
        fits_router(explorer),
        questions_router(explorer),
        analyses_router(explorer, analyses, streams),
        review_router(explorer, settings),
        verifying_router(explorer, jobs),
    ):
        app.include_router(router, prefix=PREFIX)
    _add_pages(app, weights)
    return Application(Measured(access.Gate(app, settings, secure=secure)), streams.closing.set)


def _operation(route: APIRoute) -> str:
    return route.name


def _add_pages(app: FastAPI, weights: WeightStore) -> None:
    @app.get(access.LIVE, include_in_schema=False)
    async def live() -> Response:
        return PlainTextResponse("alive\n")

    @app.get(access.HEALTH, include_in_schema=False)
    def health() -> Response:
        weights.store.ping()
        return PlainTextResponse("serving\n")

    @app.get("/{path:path}", include_in_schema=False)
    def page(path: str) -> Response:
        """Return a file of the front end; its first page for any other path, since every state is an address."""
        if path.startswith("api/"):
            raise NotFoundError(f"/{path[:200]}: there is no such call; see {PREFIX}/openapi.json")
        file = WEB / path
        # Not by where links lead: some installations have links to all files.
        known = path.startswith("assets/") and file.suffix in TYPES and ".." not in file.parts and file.is_file()
        if known:
            # Their names have a hash of their content.
            return FileResponse(
                file, media_type=TYPES[file.suffix], headers={"cache-control": "max-age=31536000, immutable"}
            )
        if path.startswith("assets/"):
            raise NotFoundError(f"/{path[:200]}: there is no such file")
        if not (WEB / "index.html").is_file():
            return JSONResponse({"api": f"{PREFIX}/openapi.json"})
        return FileResponse(WEB / "index.html", media_type=TYPES[".html"])
