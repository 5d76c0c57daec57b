"""A process that listens: the socket, the words on the terminal, the end."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from mammoscope.errors import ServiceError
from mammoscope.inference import load_bundle
from mammoscope.service.app import create_app
from mammoscope.service.settings import LOOPBACK_NAMES, ServiceSettings

__all__ = ["new_server", "serve"]

_GRACE_SECONDS = 10


def serve(
    bundle_dir: Path | str,
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: ServiceSettings | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve a bundle until interrupted.

    Args:
        bundle_dir: The bundle's folder.
        host: Address to listen on; there is no authentication, so loopback unless told.
        port: Port to listen on; 0 takes a free one.
        settings: The bounds; by default the Host header is checked on loopback only.
        allowed_hosts: More names to accept in the Host header there, such as a proxy's.

    Raises:
        BundleError: If the bundle is damaged or edited.
        ServiceError: If the address cannot be listened on.
    """
    loopback = _is_loopback(host)
    if settings is None:
        names = (*LOOPBACK_NAMES, host, *allowed_hosts)
        settings = ServiceSettings(allowed_hosts=names if loopback else None)
    predictor = load_bundle(bundle_dir)
    with _listen(host, port) as listener:
        if not loopback:
            _say(
                f"warning: listening on {host}: whoever reaches this port can send exams and read "
                "results; there is no authentication. Put a proxy with TLS and a login before it."
            )
        shown = f"[{host}]" if ":" in host else host
        _say(f"mammoscope serves {predictor.bundle.name} on http://{shown}:{_port(listener)}/")
        _say("Research software, not for diagnosis. Stop with Ctrl-C.")
        new_server(create_app(predictor, settings)).run(sockets=[listener])


def new_server(app: FastAPI) -> uvicorn.Server:
    """Return a server that is not running yet; it listens on the sockets given to ``run``."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is said of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ServiceError(
            503, f"cannot listen on {host}, port {port}: {why}; choose another with --port"
        ) from error
    return listener


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
