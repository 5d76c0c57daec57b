"""The REST interface: exams in, results out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import FileResponse, JSONResponse, Response

from mammoscope.results import ResultsDocument
from mammoscope.service.problems import ErrorDocument
from mammoscope.service.schemas import (
    DisplayDocument,
    HealthDocument,
    ModelDocument,
    describe_model,
)
from mammoscope.service.scoring import ScoringDesk
from mammoscope.service.uploads import FIELD, receive_upload

__all__ = ["WEB", "router"]

#: The page and what it is made of.
WEB = Path(__file__).parent / "web"

router = APIRouter(redirect_slashes=False)


def _desk(request: Request) -> ScoringDesk:
    desk: ScoringDesk = request.app.state.desk
    return desk


Desk = Annotated[ScoringDesk, Depends(_desk)]

_FILES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [FIELD],
    "properties": {
        FIELD: {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "DICOM files of one exam, or a zip of them; and a CSV with image_id "
            "(the file's name without suffix), laterality and view where headers lack them.",
        }
    },
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorDocument, "description": "The body is malformed."},
    408: {"model": ErrorDocument, "description": "The upload stopped arriving."},
    413: {"model": ErrorDocument, "description": "More than the service accepts."},
    415: {"model": ErrorDocument, "description": "Not multipart/form-data."},
    422: {"model": ErrorDocument, "description": "Nothing in it can be scored; says why by file."},
    503: {"model": ErrorDocument, "description": "Too many exams at one time."},
    507: {"model": ErrorDocument, "description": "No room on the disk."},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorDocument, "description": "No such exam, or no longer kept."}
}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "PNG"},
    **_NOT_FOUND,
}


@router.post(
    "/v1/exams",
    status_code=201,
    response_model=ResultsDocument,
    responses=_REFUSALS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": _FILES_SCHEMA}},
        }
    },
)
async def score_exam(request: Request, desk: Desk) -> Response:
    """Score one exam. The answer is ``results.json``; ``Location`` names where it is kept."""
    async with desk.admission() as folder:
        upload = await receive_upload(request, folder, desk.settings)
        exam_id, document = await desk.score(upload)
    return JSONResponse(document, 201, headers={"Location": f"/v1/exams/{exam_id}"})


@router.get("/v1/exams/{exam_id}", response_model=ResultsDocument, responses=_NOT_FOUND)
def read_results(exam_id: str, desk: Desk) -> Response:
    """Return the ``results.json`` of an exam that is kept."""
    return Response(desk.store.document(exam_id), media_type="application/json")


@router.get("/v1/exams/{exam_id}/display", response_model=DisplayDocument, responses=_NOT_FOUND)
def read_display(exam_id: str, desk: Desk) -> Response:
    """Return how the images of an exam are hung."""
    return Response(desk.store.display(exam_id), media_type="application/json")


@router.get("/v1/exams/{exam_id}/images/{index}.png", response_class=Response, responses=_PNG)
def read_image(exam_id: str, index: int, desk: Desk) -> Response:
    """Return an image as it is hung: 8-bit grey, at most 1400 pixels high."""
    return Response(desk.store.image(exam_id, index), media_type="image/png")


@router.get(
    "/v1/exams/{exam_id}/images/{index}/heatmap.png", response_class=Response, responses=_PNG
)
def read_heatmap(exam_id: str, index: int, desk: Desk) -> Response:
    """Return the heatmap over an image: RGBA, of the image's size."""
    return Response(desk.store.heatmap(exam_id, index), media_type="image/png")


@router.get("/v1/model")
def read_model(desk: Desk) -> ModelDocument:
    """Say which bundle serves, its operating point, and what an upload may hold."""
    return describe_model(desk.predictor.bundle, desk.settings)


@router.get(
    "/healthz",
    response_model=HealthDocument,
    responses={503: {"model": HealthDocument, "description": "The check failed."}},
)
async def read_health(desk: Desk) -> Response:
    """Say whether a synthetic image goes the whole way from file to score."""
    health = await to_thread.run_sync(desk.health)
    desk.metrics.healthy(health.ok)
    document = HealthDocument(
        ok=health.ok,
        message=health.message,
        checked_s_ago=round(time.monotonic() - health.checked_at_s, 1),
        model=desk.predictor.bundle.name,
        bundle_sha256=desk.predictor.bundle.sha256,
    )
    return JSONResponse(document.model_dump(mode="json"), 200 if health.ok else 503)


@router.get("/metrics", response_class=Response)
def read_metrics(desk: Desk) -> Response:
    """Return the metrics that Prometheus scrapes."""
    return Response(desk.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/", include_in_schema=False)
def read_page() -> Response:
    """Return the page on which exams are dropped."""
    return FileResponse(WEB / "index.html", media_type="text/html")
