"""Routes of the review: what to look at, and what people say of it. These verdicts are all that can be changed."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from datamodels.errors import DeniedError, InputError
from datamodels.explore import answers, models, verdicts, views
from datamodels.explore.opened import Explorer
from datamodels.explore.verdicts import Verdict
from datamodels.run import documents
from datamodels.settings import ExplorerSettings

from . import audit


def review_router(explorer: Explorer, settings: ExplorerSettings) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/runs/{run}/queue")
    def review_queue(
        run: str, k: Annotated[int, Query(ge=1, le=1000)] = 50, fit: Annotated[int | None, Query(ge=0)] = None
    ) -> models.QueueInfo:
        """List what to review: at most k suspects of each kind, most suspect first, with the verdicts on them."""
        opened = explorer.fit(run, fit)
        found, known = opened.queue(k), {one.subject: one for one in verdicts.read(explorer.store, run)}
        return answers.queue(opened, views.looker(opened), found, known)

    @router.get("/runs/{run}/verdicts")
    def list_verdicts(run: str) -> models.Verdicts:
        """Export the verdicts of a run as JSON."""
        explorer.weights.run(run)
        found = verdicts.read(explorer.store, run)
        return models.Verdicts(run=run, verdicts=[views.verdict(one) for one in found])

    @router.get("/runs/{run}/verdicts.csv", response_class=Response)
    def export_verdicts(run: str) -> Response:
        """Export the verdicts of a run as CSV."""
        names = explorer.weights.run(run).label_names
        text = verdicts.as_csv(verdicts.read(explorer.store, run), names)
        headers = {"content-disposition": f'attachment; filename="{run}-verdicts.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    @router.get("/runs/{run}/next.yaml", response_class=Response)
    def export_spec(run: str) -> Response:
        """Return the spec of the next run: without examples that verdicts call wrong, and with the labels they fix."""
        text = documents.dump(verdicts.next_spec(explorer.weights.run(run), verdicts.read(explorer.store, run)))
        headers = {"content-disposition": f'attachment; filename="{run}-next.yaml"'}
        return Response(text, media_type="application/yaml; charset=utf-8", headers=headers)

    @router.post("/runs/{run}/verdicts", status_code=201)
    def add_verdict(run: str, given: models.VerdictInfo, request: Request) -> models.VerdictInfo:
        """Store a verdict, in place of an earlier one on the same subject."""
        if not settings.verdicts:
            raise DeniedError("this explorer stores no verdicts; its operator has turned that off")
        opened = explorer.weights.run(run)
        fields = given.model_dump() | {"who": request.state.user, "when": round(time.time(), 3)}
        verdict = Verdict(**fields)
        if fault := views.check_subject(opened, verdict):
            raise InputError(f"{fault[0]} = {getattr(verdict, fault[0])}: must be 0 to {fault[1] - 1} in run {run}")
        verdicts.add(explorer.store, run, verdict)
        audit.written(request.scope)
        return views.verdict(verdict)

    return router
