"""Routes that list and show: runs, targets, columns and the looks of examples."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from datamodels.aggregate import manifest
from datamodels.analyze.findings import gather
from datamodels.analyze.quality import evaluate, stopping
from datamodels.errors import (
    CorruptObjectError,
    NotFoundError,
    ObjectNotFoundError,
    SupersededError,
    TargetRangeError,
)
from datamodels.explore import answers, findings, models, progress, views
from datamodels.explore.opened import Explorer, Opened
from datamodels.explore.tables import MOST_ROWS, Table
from datamodels.fit.job.finished import numbers, read_fit, read_newest_fit
from datamodels.query.limits import MAX_TOP
from datamodels.run import runs
from datamodels.storage import keys
from datamodels.telemetry import logger

from .streams import Streams

log = logger(__name__)

Count = Annotated[int, Query(ge=1, le=MAX_TOP)]
FitNumber = Annotated[int | None, Query(ge=0, le=999_999, description="number of the fit; by default the newest")]
READERS = 8
"""Runs of a list that are read from the store at the same time."""
PICTURE = {"cache-control": "private, max-age=86400, immutable"}
"""Looks of a run are written once."""


class Listing:
    """The query of a list: which rows, in which order."""

    def __init__(
        self,
        where: Annotated[
            list[str] | None, Query(description="conditions that all hold: `heldout_r2>=0.5`, `label=3`, `status!=ok`")
        ] = None,
        search: Annotated[
            str, Query(max_length=200, description="text of a title, a class or the example; or a number: #13")
        ] = "",
        sort: Annotated[list[str] | None, Query(description="fields; with - before those to sort descending")] = None,
        offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        limit: Annotated[int, Query(ge=0, le=MOST_ROWS)] = 100,
    ):
        self.offset = offset
        self.limit, self.where, self.search, self.sort = limit, where or [], search, sort or []

    def of(self, opened: Opened, table: Table) -> models.Rows:
        """Return the rows, fewer than asked for if they would be too large."""
        page = table.page(filters=self.where, search=self.search, sort=self.sort, offset=self.offset, limit=self.limit)
        sizes = np.cumsum([len(json.dumps(row)) for row in page.rows])
        rows = page.rows[: max(1, int(np.searchsorted(sizes, views.MOST_BYTES, side="right")))]
        end = self.offset + len(rows)
        following = end if rows and end < page.total else None
        number = opened.fitted.record.number
        return models.Rows(fit=number, total=page.total, rows=rows, next=following, fields=table.texts)


def runs_router(explorer: Explorer, streams: Streams, price: float) -> APIRouter:
    """Return the routes about runs. price: of one trainer for one hour; 0 if it is not known."""
    router, weights, store = APIRouter(), explorer.weights, explorer.store

    @router.get("/runs")
    def list_runs(
        request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100, page: str = ""
    ) -> models.RunPage:
        """List the runs of the store that the caller may read, by name. Damaged ones are left out."""
        names = [name for name in filter(request.state.may_read, runs.names(store)) if name > page]
        with ThreadPoolExecutor(READERS, thread_name_prefix="runs") as readers:
            found = list(readers.map(lambda name: _in_short(explorer, name, price), names[:limit]))
        return models.RunPage(runs=list(filter(None, found)), next=names[limit - 1] if len(names) > limit else None)

    @router.get("/runs/{run}")
    def get_run(run: str) -> models.RunDetail:
        """Describe a run: its spec, its fits, and how far it is."""
        opened, looks = weights.run(run), explorer.looks(run)
        if weights.fits(run):
            explorer.warm(run)
        records = [read_fit(store, run, number) for number in numbers(store, run)]
        fits = [views.fit(opened, record, evaluate.recorded(store, run, record.number)) for record in records]
        return models.RunDetail(
            **views.run_fields(
                opened,
                manifest.read_newest(store, run),
                stopping.recorded(store, run),
                fits=weights.fits(run),
                quality=fits[-1].quality if fits else None,
                looks=looks is not None,
                price=price,
            ),
            pictures=looks is not None and looks.pool(0).picture is not None,
            spec=opened.spec.document(),
            label_names=list(opened.label_names),
            fit_list=fits,
            features=views.features(looks),
        )

    @router.get("/runs/{run}/progress")
    def get_progress(run: str) -> models.ProgressInfo:
        """Say how far a run is."""
        return views.progress(progress.read(weights, run), price)

    @router.get("/runs/{run}/events", response_class=StreamingResponse)
    def watch_progress(run: str) -> Response:
        """Send the progress of a run as server-sent events `progress`, whenever it changes, and `ended` at its end."""
        weights.run(run)
        known: dict[int, progress.Measured | None] = {}
        return streams.progress(lambda: progress.read(weights, run, known), price)

    return router


def _in_short(explorer: Explorer, name: str, price: float) -> models.RunInfo | None:
    """Describe a run for a list; None if it is damaged or gone."""
    weights, store = explorer.weights, explorer.store
    run = weights.readable(name)
    if run is None:
        return None
    try:
        record = read_newest_fit(store, name)
        measured = None if record is None else evaluate.recorded(store, name, record.number)
        return models.RunInfo(
            **views.run_fields(
                run,
                manifest.read_newest(store, name),
                stopping.recorded(store, name),
                fits=weights.fits(name),
                quality=views.quality(record, measured),
                looks=store.exists(keys.display(name)),
                price=price,
            )
        )
    except (CorruptObjectError, ObjectNotFoundError, SupersededError) as error:
        log.warning("run left out of a list", run=name, reason=str(error))
        return None


def looks_router(explorer: Explorer) -> APIRouter:
    """Return the routes about how examples look."""
    router = APIRouter()

    def shown(run: str, role: str, index: int) -> views.Looker:
        opened = explorer.weights.run(run)
        limit = opened.n if role == "target" else opened.design.examples
        if not 0 <= index < limit:
            raise TargetRangeError(f"{role} {index}: must be 0 to {limit - 1} in run {run}")
        return views.Looker(opened, explorer.looks(run))

    @router.get("/runs/{run}/targets/{target}/look")
    def look_at_target(run: str, target: int) -> models.LookInfo:
        """Say how a target looks."""
        return shown(run, "target", target).target(target)

    @router.get("/runs/{run}/examples/{example}/look")
    def look_at_example(run: str, example: int) -> models.LookInfo:
        """Say how a training example looks."""
        return shown(run, "example", example).example(example)

    @router.get("/runs/{run}/targets/{target}/picture", response_class=Response)
    def picture_of_target(run: str, target: int) -> Response:
        """Return the picture of a target, a PNG."""
        shown(run, "target", target)
        return _picture(explorer, run, "target", target)

    @router.get("/runs/{run}/examples/{example}/picture", response_class=Response)
    def picture_of_example(run: str, example: int) -> Response:
        """Return the picture of a training example, a PNG."""
        shown(run, "example", example)
        return _picture(explorer, run, "pool", example)

    return router


def _picture(explorer: Explorer, run: str, role: str, index: int) -> Response:
    looks = explorer.looks(run)
    found = None if looks is None else (looks.target(index) if role == "target" else looks.pool(index)).picture
    if found is None:
        raise NotFoundError(f"{role} {index} of run {run}: has no picture in the store")
    return Response(found, media_type="image/png", headers=PICTURE)


def fits_router(explorer: Explorer) -> APIRouter:
    """Return the routes about targets and columns."""
    router = APIRouter()

    @router.get("/runs/{run}/targets")
    def list_targets(run: str, asked: Annotated[Listing, Depends()], fit: FitNumber = None) -> models.Rows:
        """List the targets of a fit: filter, sort, search and pages."""
        opened = explorer.fit(run, fit)
        return asked.of(opened, opened.targets)

    @router.get("/runs/{run}/columns")
    def list_columns(run: str, asked: Annotated[Listing, Depends()], fit: FitNumber = None) -> models.Rows:
        """List the training examples, or groups, of a fit by what they do: filter, sort, search and pages."""
        opened = explorer.fit(run, fit)
        return asked.of(opened, opened.columns)

    # Before the routes of one target and one column, which would take `values` for a number.
    @router.get("/runs/{run}/targets/values")
    def values_of_targets(run: str, field: str, fit: FitNumber = None) -> models.Values:
        """Return one field of all targets, by their numbers."""
        opened = explorer.fit(run, fit)
        return _values(opened, opened.targets, field)

    @router.get("/runs/{run}/columns/values")
    def values_of_columns(run: str, field: str, fit: FitNumber = None) -> models.Values:
        """Return one field of all training examples, or groups, by their numbers."""
        opened = explorer.fit(run, fit)
        return _values(opened, opened.columns, field)

    @router.get("/runs/{run}/targets/{target}")
    def get_target(run: str, target: int, k: Count = 20, fit: FitNumber = None) -> models.TargetDetail:
        """Describe a target: the k columns that help it most, and the k that harm it most."""
        opened = explorer.fit(run, fit)
        return answers.target(opened, views.looker(opened), target, k)

    @router.get("/runs/{run}/targets/{target}/findings")
    def get_findings_of_target(run: str, target: int, fit: FitNumber = None) -> models.TargetFindings:
        """Say what models said of a target on unseen subsets, and what is predicted as helpful columns are removed."""
        opened = explorer.fit(run, fit)
        return findings.of_target(opened.fitted.record.number, opened.described[target])

    @router.get("/runs/{run}/findings")
    def get_findings(run: str, fit: FitNumber = None) -> models.FindingsInfo:
        """Say what a run has found as a whole: quality, learning curve, fragility, conflicts. This takes seconds."""
        if fit is None and not explorer.weights.fits(run):
            return findings.of(gather(explorer.store, explorer.weights.run(run), None))
        return findings.of(explorer.fit(run, fit).findings)

    @router.get("/runs/{run}/columns/{column}")
    def get_column(run: str, column: int, k: Count = 20, fit: FitNumber = None) -> models.ColumnDetail:
        """Describe a training example, or a group: which targets does it move?"""
        opened = explorer.fit(run, fit)
        return answers.column(opened, views.looker(opened), column, k)

    return router


def _values(opened: Opened, table: Table, field: str) -> models.Values:
    values, text = table.values(field), table.fields[field].text
    shown: Any = values if isinstance(values, list) else views.plain(views.rounded(values))
    return models.Values(fit=opened.fitted.record.number, field=field, text=text, values=shown)
