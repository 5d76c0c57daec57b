"""One JSON form for every refusal: ``{"error": {"code": ..., "message": ...}}``."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from mammoscope.errors import ServiceError
from mammoscope.types import Refusal

__all__ = ["ErrorDocument", "RequestRefusedError", "error_response", "install_handlers"]


class FileError(BaseModel):
    """Why one file was refused."""

    image_id: str
    reason: str
    message: str


class ErrorBody(BaseModel):
    """What went wrong: a code for programs, a sentence for people, the files it is about."""

    code: str
    message: str
    files: list[FileError] | None = None
    id: str | None = None


class ErrorDocument(BaseModel):
    """The answer to any request that is not served."""

    error: ErrorBody


class RequestRefusedError(ServiceError):
    """A request that is refused, with a code for programs.

    Args:
        status: The HTTP status code.
        code: Stable word that a program can act on.
        message: The sentence that says why.
        files: The files that it is about.
    """

    def __init__(self, status: int, code: str, message: str, files: Sequence[Refusal] = ()) -> None:
        super().__init__(status, message)
        self.code = code
        self.files = tuple(files)


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    files: Sequence[Refusal] = (),
    error_id: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Return the one form of an error."""
    body = ErrorBody(
        code=code,
        message=message,
        files=[
            FileError(image_id=r.image_id, reason=str(r.reason), message=r.message) for r in files
        ]
        or None,
        id=error_id,
    )
    document = ErrorDocument(error=body).model_dump(mode="json", exclude_none=True)
    return JSONResponse(document, status, headers=headers)


def install_handlers(app: FastAPI) -> None:
    """Give every refusal, the framework's and ours, the one form."""

    @app.exception_handler(HTTPException)
    async def http_refusal(_request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        code = status.phrase.lower().replace(" ", "_").replace("-", "_")
        headers = dict(error.headers) if error.headers else None
        sentence = error.detail if error.detail != status.phrase else status.description
        return error_response(status, code, sentence or status.phrase, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        return error_response(422, "invalid_request", "; ".join(faults))

    @app.exception_handler(RequestRefusedError)
    async def refused(_request: Request, error: RequestRefusedError) -> JSONResponse:
        # A client that was told to come back should be told when.
        headers = {"Retry-After": "10"} if error.status == 503 else None
        return error_response(
            error.status, error.code, str(error), files=error.files, headers=headers
        )
