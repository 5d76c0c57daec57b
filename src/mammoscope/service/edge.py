"""The HTTP edge: who may ask, what every answer carries, and what a bug becomes."""

from __future__ import annotations

import secrets
import traceback
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mammoscope.log import get_logger
from mammoscope.service.problems import error_response
from mammoscope.service.telemetry import Metrics

__all__ = ["Edge"]

_log = get_logger(__name__)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Edge:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        metrics: Counts every answer.
        allowed_hosts: Names accepted in the Host header; ``None`` takes any.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, allowed_hosts: tuple[str, ...] | None
    ) -> None:
        self._app, self._metrics, self._allowed_hosts = app, metrics, allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # Results are of patients: neither proxy nor browser may keep them.
                private = not scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-store" if private else "no-cache")
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = 499  # nobody is left to answer; nginx counts them so
        except Exception as error:
            error_id = secrets.token_hex(4)
            # The message may quote a file's header, so only its class and place are logged.
            places = "".join(traceback.format_tb(error.__traceback__))
            _log.error("internal error %s: %s\n%s", error_id, type(error).__name__, places)
            if status is not None:
                raise
            await _internal_error(error_id)(scope, receive, send_with_headers)
        finally:
            self._metrics.request(scope["method"], _route(scope), status or 500)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if self._allowed_hosts is not None and host not in self._allowed_hosts:
            accepted = ", ".join(self._allowed_hosts)
            message = f"the Host header names another machine; accepted: {accepted}"
            return error_response(421, "wrong_host", message)
        # There is no login to borrow, but no other site's page should fill our disk.
        foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if foreign and scope["method"] not in _SAFE_METHODS:
            return error_response(403, "cross_site", "another site's page may not send exams")
        return None


def _internal_error(error_id: str) -> JSONResponse:
    message = f"something went wrong inside the service; its log has the details under {error_id}"
    return error_response(500, "internal_error", message, error_id=error_id)


def _route(scope: Scope) -> str:
    """Return the route's template: few values, and none of them names an exam."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    return "/static" if str(scope["path"]).startswith("/static/") else "unmatched"
